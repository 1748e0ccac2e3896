package kafkatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

// DefaultVersion is the version of Apache Kafka that is run unless
// STREAMER_TEST_KAFKA_VERSION names another.
const DefaultVersion = "4.1.2"

// Version returns the version of Apache Kafka that is run.
func Version() string { return cmp.Or(os.Getenv("STREAMER_TEST_KAFKA_VERSION"), DefaultVersion) }

// launcher runs the classes of Kafka.
type launcher interface {
	// command prepares a command that runs a class for the broker.
	command(ctx context.Context, b *broker, class string, jvmOptions []string, args ...string) *exec.Cmd
	// signal sends a signal to the running broker.
	signal(b *broker, signal syscall.Signal) error
}

// findLauncher prefers Java, which needs no image and starts faster.
func findLauncher(ctx context.Context, progress func(string)) (launcher, error) {
	java, javaErr := newJavaLauncher(ctx, progress)
	if javaErr == nil {
		return java, nil
	}
	docker, dockerErr := newDockerLauncher(ctx, progress)
	if dockerErr == nil {
		return docker, nil
	}
	return nil, fmt.Errorf("%w: %w; install Java 17 and Maven, start Docker, or set STREAMER_TEST_KAFKA_BROKERS to a cluster",
		testserver.ErrMissing, errors.Join(javaErr, dockerErr))
}

// jvmOptions are for a small broker that starts quickly: the first compiler
// only, and no threads for the garbage collector.
func jvmOptions(b *broker, more []string) []string {
	return append([]string{
		"-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		// Files that a killed broker would leave in the shared temporary folder.
		"-XX:-UsePerfData", "-Djava.io.tmpdir=" + b.folder,
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
	}, more...)
}

// run returns what a program prints to either output.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	err := testserver.RunProcess(cmd)
	return output.String(), err
}
