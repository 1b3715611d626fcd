-- The ten plazas that stand worst now: saturated ones and those below or above usual first, then by throughput over capacity, then by flow.

select c.toll_plaza_id, p.name, c.state, c.since, round(c.vc, 2) as vc, round(c.flow_per_hour) as flow_per_hour, c.vehicles_15m,
  round(c.usual_15m, 1) as usual_15m, round(c.z, 1) as z, round(100 * c.heavy_share, 1) as heavy_percent, round(c.phf, 2) as phf,
  c.assessed, c.why
from toll_congestion c
left join toll_plaza p on p.toll_plaza_id = c.toll_plaza_id
order by c.state in ('saturated', 'below_usual', 'above_usual') desc, c.vc desc, c.flow_per_hour desc, c.toll_plaza_id
limit 10;
