// Package franzgroup runs a [consume.Consumer] with a consumer group of
// github.com/twmb/franz-go, cooperative by default.
package franzgroup
