-- Optional: indexes for fast counts of one plaza and of the last hour. Safe to run again.

-- tollstream needs neither. Without them every count reads the whole table; with them every insert costs more.
-- To drop them again:
--   drop index tollstream_plaza on livetolldata;
--   drop index tollstream_time on livetolldata;

-- MySQL has no `create index if not exists`, so each is created by a prepared statement if it is missing.

-- All columns, plaza first: counts and checksums of one plaza read the index alone.
set @tollstream = (select if(count(*) = 0,
  'create index tollstream_plaza on livetolldata (toll_plaza_id, timestamp, vehicle_id, vehicle_type)', 'select 1 from dual where 1 = 0')
  from information_schema.statistics
  where table_schema = database() and table_name = 'livetolldata' and index_name = 'tollstream_plaza');
prepare tollstream from @tollstream;
execute tollstream;
deallocate prepare tollstream;

-- By time: last_hour.sql, the newest row, travel times and trips, which read the index alone. One without vehicle_id takes about twice as long for these.
set @tollstream = (select if(count(*) = 0,
  'create index tollstream_time on livetolldata (timestamp, toll_plaza_id, vehicle_id)', 'select 1 from dual where 1 = 0')
  from information_schema.statistics
  where table_schema = database() and table_name = 'livetolldata' and index_name = 'tollstream_time');
prepare tollstream from @tollstream;
execute tollstream;
deallocate prepare tollstream;

select index_name, column_name
from information_schema.statistics
where table_schema = database() and table_name = 'livetolldata' and index_name in ('tollstream_plaza', 'tollstream_time')
order by index_name, seq_in_index;
