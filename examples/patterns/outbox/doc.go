// Package outbox writes events into the outbox table, in the transaction of the
// change that they tell of.
package outbox
