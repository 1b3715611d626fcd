-- A plaza's day by quarter hours: set @plaza = 4856, @day = '2022-02-10' before, or plaza=4856 day=2022-02-10 behind `tollstream sql history`.

-- It reads the results of the windows 15m. Without settings it is the plaza where the flow is highest now, and its last day.
set @tollstream_plaza = coalesce(@plaza,
  (select toll_plaza_id from toll_congestion order by flow_per_hour desc, toll_plaza_id limit 1),
  (select min(toll_plaza_id) from toll_window));
set @tollstream_day = coalesce(@day,
  (select max(window_start) from toll_window where toll_plaza_id = @tollstream_plaza and kind = '15m'));

select toll_plaza_id, window_start, window_end, events, flow_per_hour, by_type, events - late as on_time, late, too_late, revision, reason
from toll_window
where toll_plaza_id = @tollstream_plaza and kind = '15m'
  and window_start >= cast(@tollstream_day as date) and window_start < cast(@tollstream_day as date) + interval 1 day
order by start_minute;
