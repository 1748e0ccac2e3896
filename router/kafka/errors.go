package kafka

import (
	"errors"
	"io"
	"slices"
	"syscall"

	"github.com/IBM/sarama"
)

// ErrFenced means that another producer has taken this one's place.
var ErrFenced = errors.New("producer was fenced by another instance")

// Permanent reports whether repeating a request is pointless until the operator
// changes something.
func Permanent(err error) bool {
	code, known := errors.AsType[sarama.KError](err)
	return known && slices.Contains(permanentCodes, code)
}

// Impossible reports whether an error says that Kafka can never have a topic of
// this name.
func Impossible(err error) bool { return errors.Is(err, sarama.ErrInvalidTopic) }

var permanentCodes = []sarama.KError{
	sarama.ErrClusterAuthorizationFailed, sarama.ErrTransactionalIDAuthorizationFailed, sarama.ErrInvalidTopic,
	sarama.ErrUnsupportedForMessageFormat, sarama.ErrInvalidRequiredAcks, sarama.ErrUnsupportedVersion, sarama.ErrUnsupportedCompressionType,
}

// passes reports whether an error goes away by itself: every one that is not a
// broker's answer, and some answers.
func passes(err error) bool {
	code, answered := errors.AsType[sarama.KError](err)
	return !answered || slices.Contains(passing, code)
}

// Unreachable reports whether no broker could be asked: none answers, or each
// refuses the login.
func Unreachable(err error) bool {
	return errors.Is(err, sarama.ErrOutOfBrokers) || errors.Is(err, sarama.ErrSASLAuthenticationFailed)
}

// Closed reports whether the other side has closed the connection. Brokers close
// connections that are idle.
func Closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// passing are the error codes that go away by themselves.
var passing = []sarama.KError{
	sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrNotCoordinatorForConsumer, sarama.ErrOffsetsLoadInProgress,
	sarama.ErrConcurrentTransactions, sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition,
	sarama.ErrRequestTimedOut, sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrNetworkException,
	sarama.ErrReplicaNotAvailable, sarama.ErrKafkaStorageError,
}
