select state, count(*) as "count!" from job group by state
