// Package shop is a little shop that uses a transactional outbox: every change
// of an order is committed together with the outbox rows that describe it. It
// is the load of the demo and of the end-to-end tests. It keeps a [Ledger] of
// what it committed and what it rolled back, so that an audit of the Kafka
// topics has ground truth to compare with.
//
// # Order
//
// The order of the events of one aggregate must be its commit order. Therefore
// a transaction holds the row lock of an aggregate when it assigns the next
// version. PostgreSQL releases that lock only after the commit record is
// written, so version n+1 is always committed after version n. A transaction
// that needs both locks takes the order's first. Only a new order, which no
// other transaction can see, comes after its customer. So transactions cannot
// deadlock.
package shop
