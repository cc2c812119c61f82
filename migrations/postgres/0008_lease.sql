-- Who alone may do something for now, such as lead the schedulers. The epoch rises with each holder and never falls, so
-- that what an earlier one says late can be told apart: a row that was released stays.

create table lease (
    name text collate "C" not null primary key,
    holder text not null,
    epoch bigint not null check (epoch > 0),
    expires_at bigint not null
);
