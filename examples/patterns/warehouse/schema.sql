create table item (
  name      text primary key,
  available bigint not null check (available >= 0)
);

create table reservation (
  order_id text primary key,
  item     text not null references item,
  quantity bigint not null check (quantity > 0),
  state    text not null check (state in ('reserved', 'refused', 'released'))
);
