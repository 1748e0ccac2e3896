// Package locate finds places in partitions that are too long to be read. The
// events of a stream are in the order of their positions there, apart from those
// that were published again or late, and roughly in the order of their commits.
// So a place is found in a few fetches, whatever else is in the partition.
package locate
