-- Vehicles by type, of all plazas or of one: set @plaza = 4856 before, or plaza=4856 behind `tollstream sql by_type`.

-- Types are case-sensitive whatever the table's collation says: car and CAR are two.
select convert(vehicle_type using utf8mb4) collate utf8mb4_bin as vehicle_type, count(*) as vehicles
from livetolldata
where @plaza is null or toll_plaza_id = coalesce(@plaza, toll_plaza_id)
group by convert(vehicle_type using utf8mb4) collate utf8mb4_bin
order by vehicles desc, vehicle_type;
