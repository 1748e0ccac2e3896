package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/examples/patterns/accounts"
	"github.com/outboxstream/streamer/examples/patterns/orchestration"
	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/warehouse"
)

func TestOrchestration(t *testing.T) {
	t.Parallel()
	const (
		paymentCommands, paymentReplies = "orchestration.payment-command", "orchestration.payment-reply"
		stockCommands, stockReplies     = "orchestration.stock-command", "orchestration.stock-reply"
	)
	s := newStage(t, "orchestration")
	orders := load(400)
	money, goods := int64(orders)*7, int64(orders)/20
	w := shop{
		orders:   s.database(outbox.Schema, orchestration.Schema),
		payments: s.database(outbox.Schema, accounts.Schema),
		stock:    s.database(outbox.Schema, warehouse.Schema),
	}
	w.orders.exec("create view orders as select order_id as id, customer, amount, item, quantity, step as state from saga")
	w.payments.exec(accountsOpen, money)
	w.stock.exec(shelvesFull, goods)
	w.orders.streamer("orders", paymentCommands, stockCommands)
	w.payments.streamer("payments", paymentReplies)
	w.stock.streamer("stock", stockReplies)
	payments := w.payments.service("orchestration-payments")
	w.stock.service("orchestration-stock")
	const patience = "5s"
	w.orders.service("orchestration-orchestrator", "-patience", patience)
	customers := w.orders.clients("orchestration-customers", orders, 60, "-patience", patience)

	// While a service is away for longer than a step may take, sagas go back.
	s.eventually("orders are paid", func() bool { return w.payments.number("select count(*) from charge") > 0 })
	payments.kill()
	s.eventually("deadlines pass", func() bool { return w.orders.number("select count(*) from saga where timeouts > 0") > 0 })
	payments.start()
	s.rage(customers.complete)

	s.eventually("each saga has ended", func() bool {
		return w.orders.number("select count(*) from saga where step in ('confirmed', 'cancelled')") == int64(orders)
	})
	s.eventually("each message is published and handled", func() bool {
		return w.orders.published("outbox", paymentCommands, stockCommands) && w.payments.published("outbox", paymentReplies) &&
			w.stock.published("outbox", stockReplies) && w.orders.handled("orchestrator", paymentReplies, stockReplies) &&
			w.payments.handled("orchestrated-payments", paymentCommands) && w.stock.handled("orchestrated-stock", stockCommands)
	})
	w.conserved(allAccounts*money, allShelves*goods)
	timeouts, late := w.orders.number("select sum(timeouts) from saga"), w.orders.number("select sum(late) from saga")
	t.Log(w.orders.texts("select step || ': ' || count(*) from saga group by step order by step"))
	t.Logf("%d deadlines passed, %d replies came too late, %d kills", timeouts, late, s.kills())
	assert.Positive(t, late, "replies came too late, and did no harm")
	assert.Positive(t, w.orders.number("select count(*) from saga where step = 'confirmed'"))
}
