package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

// image names the image of [Version].
func image() string { return "apache/kafka:" + Version() }

// dockerLauncher runs Kafka from its image, on the network of the host. Unlike
// a process, a container outlives this process if this process is killed.
type dockerLauncher struct{}

func newDockerLauncher(ctx context.Context, progress func(string)) (*dockerLauncher, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("docker has the network of the host on Linux only")
	}
	if output, err := run(ctx, "docker", "info", "--format", "{{.ServerVersion}}"); err != nil {
		return nil, fmt.Errorf("docker info: %w: %s", err, strings.TrimSpace(output))
	}
	if _, err := run(ctx, "docker", "image", "inspect", image()); err != nil {
		testserver.Report(progress, "pulling %s", image())
		if output, err := run(ctx, "docker", "pull", "--quiet", image()); err != nil {
			return nil, fmt.Errorf("docker pull %s: %w: %s", image(), err, strings.TrimSpace(output))
		}
	}
	return &dockerLauncher{}, nil
}

func (l *dockerLauncher) command(ctx context.Context, b *broker, class string, options []string, args ...string) *exec.Cmd {
	docker := []string{
		"run", "--rm", "--name", l.container(b, class), "--network", "host",
		"--user", strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid()),
		"--volume", b.folder + ":" + b.folder,
		"--entrypoint", "java", image(),
	}
	docker = append(docker, jvmOptions(b, options)...)
	// The image logs through log4j, which without a configuration shows errors only.
	docker = append(docker, "-Dlog4j2.level=INFO", "-cp", "/opt/kafka/libs/*", class)
	return exec.CommandContext(ctx, "docker", append(docker, args...)...)
}

func (l *dockerLauncher) signal(b *broker, signal syscall.Signal) error {
	output, err := run(context.Background(), "docker", "kill", "--signal", strconv.Itoa(int(signal)), l.container(b, "kafka.Kafka"))
	if err != nil {
		return fmt.Errorf("docker kill: %w: %s", err, strings.TrimSpace(output))
	}
	return nil
}

// container names the container after the folders, which are unique.
func (l *dockerLauncher) container(b *broker, class string) string {
	return filepath.Base(filepath.Dir(b.folder)) + "-" + filepath.Base(b.folder) + "-" + class
}
