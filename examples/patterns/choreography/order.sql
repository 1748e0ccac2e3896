create table orders (
  id       text primary key,
  customer text not null,
  amount   bigint not null,
  item     text not null,
  quantity bigint not null,
  state    text not null check (state in ('placed', 'confirmed', 'cancelled')),
  reason   text
);
