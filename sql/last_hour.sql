-- Vehicles per plaza in the last hour of event time, up to the newest row.

select toll_plaza_id, count(*) as vehicles, min(timestamp) as first_event, max(timestamp) as last_event
from livetolldata
where timestamp > (select max(timestamp) from livetolldata) - interval 1 hour
group by toll_plaza_id
order by vehicles desc, toll_plaza_id;
