package contender

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/internal/wait"
)

// DebeziumVersion is the version to compare with, on Kafka Connect of the
// broker's version.
const DebeziumVersion = "3.4.3.Final"

//go:embed pom.xml
var pom []byte

// Connect is an installation of Kafka Connect with Debezium.
type Connect struct {
	java   string
	folder string // jars in connect, plugins in plugins
}

// InstallConnect downloads both once. Errors wrap [ErrMissing].
func InstallConnect(ctx context.Context, progress func(string)) (*Connect, error) {
	return installConnect(ctx, DebeziumVersion, progress)
}

func installConnect(ctx context.Context, version string, progress func(string)) (*Connect, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	if err := run(exec.CommandContext(ctx, java, "-version")); err != nil {
		return nil, fmt.Errorf("%w: Java: %w", ErrMissing, err)
	}
	folder, err := testserver.Cached(ctx, "debezium-"+version+"-connect-"+kafkatest.Version(), progress, func(folder string) error {
		testserver.Report(
			progress, "downloading Debezium %s and Kafka Connect %s from Maven Central (about 80 MB)",
			version, kafkatest.Version(),
		)
		return download(ctx, version, folder)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return &Connect{java: java, folder: folder}, nil
}

func download(ctx context.Context, version, folder string) (err error) {
	project, err := os.MkdirTemp(folder, "pom")
	if err != nil {
		return fmt.Errorf("create folder for Maven: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(project)) }()
	file := filepath.Join(project, "pom.xml")
	if err := os.WriteFile(file, pom, 0o600); err != nil {
		return fmt.Errorf("write pom.xml: %w", err)
	}
	for _, goal := range [][]string{
		{"dependency:copy-dependencies", "-DincludeTypes=jar", "-DoutputDirectory=" + filepath.Join(folder, "connect")},
		{"dependency:unpack-dependencies", "-DincludeTypes=tar.gz", "-DoutputDirectory=" + filepath.Join(folder, "plugins")},
	} {
		arguments := append(
			[]string{"-q", "-B", "-f", file, "-Dkafka.version=" + kafkatest.Version(), "-Ddebezium.version=" + version},
			goal...)
		if err := run(exec.CommandContext(ctx, cmp.Or(os.Getenv("MVN"), "mvn"), arguments...)); err != nil {
			return fmt.Errorf("download Debezium: mvn: %w", err)
		}
	}
	return nil
}

// standalone runs a worker with one connector.
func (c *Connect) standalone(ctx context.Context, t Task) *exec.Cmd {
	return c.command(
		ctx, t, "ConnectStandalone", filepath.Join(t.Folder, "worker.properties"), filepath.Join(t.Folder, "connector.properties"),
	)
}

// distributed runs a worker that waits for connectors.
func (c *Connect) distributed(ctx context.Context, t Task) *exec.Cmd {
	return c.command(ctx, t, "ConnectDistributed", filepath.Join(t.Folder, "worker.properties"))
}

func (c *Connect) command(ctx context.Context, t Task, class string, files ...string) *exec.Cmd {
	arguments := append([]string{
		"-Xms256m", heap, "-XX:+UseG1GC", "-XX:-UsePerfData",
		"-Djava.io.tmpdir=" + t.Folder, "-Dlog4j2.configurationFile=" + filepath.Join(t.Folder, "log4j2.properties"),
		"-cp", filepath.Join(c.folder, "connect", "*"), "org.apache.kafka.connect.cli." + class,
	}, files...)
	cmd := exec.CommandContext(ctx, c.java, arguments...)
	cmd.Env, cmd.Dir = environment(), t.Folder
	return cmd
}

const (
	submitPatience = 2 * time.Minute
	submitEvery    = 50 * time.Millisecond
)

var errNotReady = errors.New("the worker is not ready")

// submit sends the configuration of a connector to a worker, again and again
// until it takes it.
func submit(ctx context.Context, url string, connector map[string]string, ended <-chan struct{}) error {
	body, err := json.Marshal(connector)
	if err != nil {
		return fmt.Errorf("configuration of the connector: %w", err)
	}
	var last error
	done, err := wait.Until(ctx, submitPatience, submitEvery, func() (bool, error) {
		select {
		case <-ended:
			return false, errors.New("submit connector: the worker has ended")
		default:
		}
		last = put(ctx, url, body)
		if last != nil && !errors.Is(last, errNotReady) {
			return false, last
		}
		return last == nil, nil
	})
	if err == nil && !done {
		err = fmt.Errorf("submit connector: %w", last)
	}
	return err
}

// put sends one request. It returns errNotReady if another one may succeed: a
// worker that is starting does not listen, answers 404 or 503, gives up waiting
// for itself (500), or rebalances (409).
func put(ctx context.Context, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("submit connector: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	defer response.Body.Close()
	const enough = 1 << 10
	text, _ := io.ReadAll(io.LimitReader(response.Body, enough)) // only explains
	switch code := response.StatusCode; {
	case code == http.StatusOK, code == http.StatusCreated:
		return nil
	case code == http.StatusNotFound, code == http.StatusConflict, code >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %s: %s", errNotReady, response.Status, text)
	}
	return fmt.Errorf("submit connector: %s: %s", response.Status, text)
}
