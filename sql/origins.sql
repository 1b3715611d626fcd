-- Where vehicles come from and go to: set @through = 4007, @until = '2022-02-10 18:00', @minutes = 60 before, or through=4007 behind `tollstream sql origins`.

-- Of the trips that ended in the hour until the newest row or, with @through, passed that plaza in it.
-- A trip is what a vehicle passed with at most two hours between. Trips that end where they begin are left out: nearly all of them are seen at one plaza only.
-- Fewer than 5 vehicles are not shown by themselves but as other; where that is one pair, the next smallest is other too.
-- Set @changed to when the hour begins that a change of the clock shows twice or skips: what touches it is left out.
set @tollstream_until = cast(coalesce(@until, (select max(timestamp) from livetolldata) + interval 1 second) as datetime);
set @tollstream_since = cast(@tollstream_until - interval coalesce(@minutes, 60) minute as datetime);
set @tollstream_scan = cast(@tollstream_since - interval 2 hour as datetime);
set @tollstream_end = cast(@tollstream_until + interval 2 hour as datetime);
set @tollstream_through = coalesce(@through, null);
set @tollstream_changed = cast(coalesce(@changed, '1000-01-01') as datetime);

with scanned as (
  select distinct vehicle_id, timestamp as at, toll_plaza_id as plaza
  from livetolldata
  where timestamp >= @tollstream_scan and timestamp < @tollstream_end and vehicle_id is not null and toll_plaza_id is not null
), passages as (
  select vehicle_id, at, plaza, plaza = @tollstream_through and at >= @tollstream_since and at < @tollstream_until as hit,
    lag(at) over (partition by vehicle_id order by at, plaza) as at_before,
    lead(at) over (partition by vehicle_id order by at, plaza) as at_after
  from scanned
), numbered as ( -- a trip begins where the vehicle was not seen for two hours
  select vehicle_id, at, plaza, hit,
    sum(case when at_before >= at - interval 2 hour then 0 else 1 end) over (partition by vehicle_id order by at, plaza rows unbounded preceding) as trip,
    case when at_before >= at - interval 2 hour then 0 else 1 end as starts,
    case when at_after <= at + interval 2 hour then 0 else 1 end as ends
  from passages
), trips as (
  select max(case when starts = 1 then plaza end) as from_plaza, max(case when ends = 1 then plaza end) as to_plaza,
    max(hit) as hit, min(at) as departed, max(at) as arrived
  from numbered
  group by vehicle_id, trip
), cells as (
  select from_plaza, to_plaza, count(*) as vehicles
  from trips
  where from_plaza <> to_plaza
    and (hit = 1 or @tollstream_through is null and arrived >= @tollstream_since and arrived < @tollstream_until)
    and not (departed < @tollstream_changed + interval 1 hour and arrived >= @tollstream_changed)
  group by from_plaza, to_plaza
), ranked as (
  select from_plaza, to_plaza, vehicles, row_number() over (order by vehicles desc, from_plaza, to_plaza) as k,
    count(*) over () as n, sum(case when vehicles < 5 then 1 else 0 end) over () as few
  from cells
), shown as (
  select case when k > n - few - (few = 1) then 'other' else from_plaza end as from_plaza,
    case when k > n - few - (few = 1) then 'other' else to_plaza end as to_plaza, vehicles, k
  from ranked
)
select from_plaza, to_plaza, sum(vehicles) as vehicles
from shown
group by from_plaza, to_plaza
order by from_plaza = 'other', vehicles desc, min(k);
