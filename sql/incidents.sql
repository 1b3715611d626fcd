-- Incidents, the newest first: a plaza from when it is saturated or far from usual until it is not; optionally of one plaza, or of one day.
-- Settings: plaza, day (such as 2022-02-10), in the clock of the database. Without them, the last 100 of all plazas.

select o.toll_plaza_id, p.name, o.since as began, o.detected,
  (select e.since from toll_transition e
    where e.toll_plaza_id = o.toll_plaza_id and e.detected_minute > o.detected_minute and e.to_state in ('free', 'busy', 'no_data')
    order by e.detected_minute limit 1) as ended,
  (select w.to_state from toll_transition w
    where w.toll_plaza_id = o.toll_plaza_id and w.detected_minute >= o.detected_minute
    and w.detected_minute < coalesce((select e.detected_minute from toll_transition e
      where e.toll_plaza_id = o.toll_plaza_id and e.detected_minute > o.detected_minute and e.to_state in ('free', 'busy', 'no_data')
      order by e.detected_minute limit 1), 2147483647)
    order by case w.to_state when 'saturated' then 4 when 'below_usual' then 3 else 2 end desc, w.detected_minute
    limit 1) as worst_state,
  o.why,
  (select n.author from toll_incident_note n
    where n.toll_plaza_id = o.toll_plaza_id and n.detected_minute = o.detected_minute and n.acknowledged = 1
    order by n.noted_at desc limit 1) as acknowledged_by
from toll_transition o
left join toll_plaza p on p.toll_plaza_id = o.toll_plaza_id
where o.from_state in ('free', 'busy', 'no_data') and o.to_state not in ('free', 'busy', 'no_data')
and o.toll_plaza_id = coalesce(@plaza, o.toll_plaza_id)
and o.since >= coalesce(@day, '1000-01-01')
and o.since < coalesce(date_add(@day, interval 1 day), '9999-12-31')
order by o.since_minute desc, o.toll_plaza_id desc
limit 100;
