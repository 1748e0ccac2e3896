create table step (
  number   bigint primary key,
  order_id text not null
);
