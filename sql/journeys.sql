-- Travel times between plazas: set @until = '2022-02-10 18:00', @minutes = 60 before, or minutes=60 behind `tollstream sql journeys`.

-- Of the vehicles that arrived in the 15 minutes until the newest row, unless it is set otherwise. The index tollstream_time (indexes.sql) makes it fast.
-- A vehicle's way from one plaza to the next counts if it took a second to two hours. Set @changed to when the hour begins that a change of the clock shows twice or skips:
-- what touches it is left out.
--   mad_by_median  0.07 to 0.13 where vehicles drive; from 0.35 on the pairs are chance: ids are drawn at random
--   stopped        vehicles that took much longer than most; the figures are of the others. Fewer than 5 vehicles are not shown.
set @tollstream_until = cast(coalesce(@until, (select max(timestamp) from livetolldata) + interval 1 second) as datetime);
set @tollstream_since = cast(@tollstream_until - interval coalesce(@minutes, 15) minute as datetime);
set @tollstream_scan = cast(@tollstream_since - interval 2 hour as datetime);
set @tollstream_changed = cast(coalesce(@changed, '1000-01-01') as datetime);

with passages as (
  select toll_plaza_id as to_plaza, timestamp as arrived,
    lag(toll_plaza_id) over (partition by vehicle_id order by timestamp, toll_plaza_id) as from_plaza,
    lag(timestamp) over (partition by vehicle_id order by timestamp, toll_plaza_id) as departed
  from livetolldata
  where timestamp >= @tollstream_scan and timestamp < @tollstream_until and vehicle_id is not null and toll_plaza_id is not null
), segments as (
  select from_plaza, to_plaza, timestampdiff(second, departed, arrived) as gap
  from passages
  where arrived >= @tollstream_since and from_plaza <> to_plaza and departed < arrived and departed >= arrived - interval 2 hour
    and not (departed < @tollstream_changed + interval 1 hour and arrived >= @tollstream_changed)
), ranked as (
  select from_plaza, to_plaza, gap, count(*) over (partition by from_plaza, to_plaza) as n,
    row_number() over (partition by from_plaza, to_plaza order by gap) as k
  from segments
), middle as ( -- the middle one, or the mean of the two in the middle
  select from_plaza, to_plaza, gap, n, k,
    avg(case when k = floor((n + 1) / 2) or k = floor(n / 2) + 1 then gap end) over (partition by from_plaza, to_plaza) as median
  from ranked
), deviations as (
  select from_plaza, to_plaza, gap, n, k, median,
    row_number() over (partition by from_plaza, to_plaza order by abs(gap - median)) as k_all,
    sum(case when gap <= median then 1 else 0 end) over (partition by from_plaza, to_plaza) as low
  from middle
), mads as ( -- of all, and of those up to the median
  select from_plaza, to_plaza, gap, n, k, median,
    avg(case when k_all = floor((n + 1) / 2) or k_all = floor(n / 2) + 1 then abs(gap - median) end)
      over (partition by from_plaza, to_plaza) as mad,
    avg(case when k = floor((low + 1) / 2) or k = floor(low / 2) + 1 then median - gap end)
      over (partition by from_plaza, to_plaza) as mad_low
  from deviations
), kept as ( -- without those that stopped on the way
  select from_plaza, to_plaza, gap, n, k, median, mad,
    sum(case when gap <= median + 6 * 1.4826 * mad_low or gap <= 1.25 * median then 1 else 0 end)
      over (partition by from_plaza, to_plaza) as keep
  from mads
)
select from_plaza, to_plaza, max(keep) as vehicles, max(n - keep) as stopped,
  round(avg(case when k = floor((keep + 1) / 2) or k = floor(keep / 2) + 1 then gap end), 1) as median_s,
  max(case when k = ceil(keep * 85 / 100) then gap end) as p85_s,
  max(case when k = ceil(keep * 95 / 100) then gap end) as p95_s,
  round(max(mad / median), 2) as mad_by_median
from kept
group by from_plaza, to_plaza
having max(keep) >= 5
order by from_plaza, to_plaza;
