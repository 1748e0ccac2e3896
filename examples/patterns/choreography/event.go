package choreography

// Topics, one for each service that speaks. The streamer's kafka.topic says how
// they follow from the aggregate type.
const (
	OrderTopic   = "choreography.order"
	PaymentTopic = "choreography.payment"
	StockTopic   = "choreography.stock"
)

// Types of events.
const (
	OrderPlaced     = "order.placed"
	OrderConfirmed  = "order.confirmed"
	OrderCancelled  = "order.cancelled"
	PaymentCharged  = "payment.charged"
	PaymentRefused  = "payment.refused"
	PaymentRefunded = "payment.refunded"
	StockReserved   = "stock.reserved"
	StockRefused    = "stock.refused"
)
