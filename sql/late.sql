-- Events that came late, by plaza and kind of window: late ones revised their windows, those too late are in none. Worst first.

select toll_plaza_id, kind, cast(sum(events) as signed) as events, cast(sum(late) as signed) as late, cast(sum(too_late) as signed) as too_late,
  round(100 * sum(late + too_late) / sum(events + too_late), 2) as percent, max(revision) as most_revisions
from toll_window
group by toll_plaza_id, kind
having sum(late + too_late) > 0
order by sum(too_late) desc, sum(late) desc, toll_plaza_id, kind;
