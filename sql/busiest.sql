-- The ten plazas that most vehicles passed.

select toll_plaza_id, count(*) as vehicles, min(timestamp) as first_event, max(timestamp) as last_event
from livetolldata
group by toll_plaza_id
order by vehicles desc, toll_plaza_id
limit 10;
