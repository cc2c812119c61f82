-- One machine, one clock: the caller's.
select cast(? as integer) as "now!: i64"
