select state as "state!: String", count(*) as "count!: i64" from job group by state
