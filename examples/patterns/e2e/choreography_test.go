package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/examples/patterns/accounts"
	"github.com/outboxstream/streamer/examples/patterns/choreography"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/warehouse"
)

// What there is in the beginning: of some too little, of others more than enough.
const (
	accountsOpen = "insert into account select 'customer-' || n, $1 * (n + 1) from generate_series(0, 10) n"
	shelvesFull  = "insert into item select 'item-' || n, $1 * (n + 1) from generate_series(0, 6) n"
	allAccounts  = 66
	allShelves   = 28
)

// shop is three services with their databases.
type shop struct{ orders, payments, stock *database }

func TestChoreography(t *testing.T) {
	t.Parallel()
	s := newStage(t, "choreography")
	orders := load(400)
	money, goods := int64(orders)*7, int64(orders)/20
	w := shop{
		orders:   s.database(outbox.Schema, choreography.OrderSchema),
		payments: s.database(outbox.Schema, accounts.Schema),
		stock:    s.database(outbox.Schema, warehouse.Schema),
	}
	w.payments.exec(accountsOpen, money)
	w.stock.exec(shelvesFull, goods)
	w.orders.streamer("orders", "choreography.order")
	w.payments.streamer("payments", "choreography.payment")
	w.stock.streamer("stock", "choreography.stock")
	w.orders.service("choreography-orders")
	w.payments.service("choreography-payments")
	w.stock.service("choreography-stock")
	s.rage(w.orders.clients("choreography-customers", orders, 60).complete)

	s.eventually("each order has ended", func() bool {
		return w.orders.number("select count(*) from orders where state <> 'placed'") == int64(orders)
	})
	s.eventually("each event is published and handled", func() bool {
		return w.orders.published("outbox", "choreography.order") && w.payments.published("outbox", "choreography.payment") &&
			w.stock.published("outbox", "choreography.stock") &&
			w.orders.handled("choreography-orders", "choreography.payment", "choreography.stock") &&
			w.payments.handled("choreography-payments", "choreography.order", "choreography.stock") &&
			w.stock.handled("choreography-stock", "choreography.payment")
	})
	w.conserved(allAccounts*money, allShelves*goods)
	assert.EqualValues(t, orders, w.orders.number("select count(*) from outbox where type in ('order.confirmed', 'order.cancelled')"),
		"each order has one end")
	ends := w.orders.texts("select state || ' after ' || reason || ': ' || count(*) from orders group by state, reason order by 1")
	t.Log(ends)
	assert.Len(t, ends, 3, "the load has led to each end")
	t.Logf("%d kills", s.kills())
}

// conserved asserts what must be so when everything has come to rest.
func (w shop) conserved(money, goods int64) {
	t := w.orders.T
	t.Helper()
	for _, d := range []*database{w.orders, w.payments, w.stock} {
		d.nothingParked()
	}
	charged := w.payments.number("select coalesce(sum(amount), 0) from charge where state = 'charged'")
	assert.Equal(t, money, charged+w.payments.number("select sum(balance) from account"), "money is conserved")
	reserved := w.stock.number("select coalesce(sum(quantity), 0) from reservation where state = 'reserved'")
	assert.Equal(t, goods, reserved+w.stock.number("select sum(available) from item"), "goods are conserved")

	assert.Equal(t,
		w.orders.texts("select id || ' ' || customer || ' ' || amount from orders where state = 'confirmed' order by id collate \"C\""),
		w.payments.texts(`select order_id || ' ' || customer || ' ' || amount from charge
			where state = 'charged' order by order_id collate "C"`),
		"what is confirmed is paid, and nothing else is")
	assert.Equal(t,
		w.orders.texts("select id || ' ' || item || ' ' || quantity from orders where state = 'confirmed' order by id collate \"C\""),
		w.stock.texts(`select order_id || ' ' || item || ' ' || quantity from reservation
			where state = 'reserved' order by order_id collate "C"`),
		"what is confirmed is reserved, and nothing else is")
}
