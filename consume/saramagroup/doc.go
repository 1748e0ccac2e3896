// Package saramagroup runs a [consume.Consumer] with a consumer group of
// github.com/IBM/sarama, eager or cooperative.
package saramagroup
