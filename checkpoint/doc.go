// Package checkpoint tracks what has been published and what may therefore be
// confirmed, and keeps that position where it survives the process.
//
// The order is always the same. The broker acknowledges, the Tracker's low
// watermark rises, a Store saves it, and only then is it confirmed to
// PostgreSQL. So the slot never runs ahead of the stored checkpoint, and
// finding it ahead is a real alarm.
//
// It knows neither pgoutput nor sarama. Start at [Tracker], and at [Store].
//
// The Go API of this package may change between minor versions.
package checkpoint
