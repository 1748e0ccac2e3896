// Package checkpoint knows what has been published and what therefore may be
// confirmed, and keeps that position where it survives the process.
//
// The order is always: the broker acknowledges, the Tracker's low watermark
// rises, a Store saves it, and only then is it confirmed to PostgreSQL. So the
// slot never runs ahead of the stored checkpoint, and finding it ahead is a
// real alarm.
package checkpoint
