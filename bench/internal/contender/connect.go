package contender

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
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
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	if err := run(exec.CommandContext(ctx, java, "-version")); err != nil {
		return nil, fmt.Errorf("%w: Java: %w", ErrMissing, err)
	}
	folder, err := testserver.Cached(ctx, "debezium-"+DebeziumVersion+"-connect-"+kafkatest.Version, progress, func(folder string) error {
		testserver.Report(
			progress, "downloading Debezium %s and Kafka Connect %s from Maven Central (about 80 MB)",
			DebeziumVersion, kafkatest.Version,
		)
		return download(ctx, folder)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return &Connect{java: java, folder: folder}, nil
}

func download(ctx context.Context, folder string) (err error) {
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
			[]string{"-q", "-B", "-f", file, "-Dkafka.version=" + kafkatest.Version, "-Ddebezium.version=" + DebeziumVersion},
			goal...)
		if err := run(exec.CommandContext(ctx, cmp.Or(os.Getenv("MVN"), "mvn"), arguments...)); err != nil {
			return fmt.Errorf("download Debezium: mvn: %w", err)
		}
	}
	return nil
}

// command runs a standalone worker with one connector.
func (c *Connect) command(ctx context.Context, t Task) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.java, "-Xms256m", heap, "-XX:+UseG1GC", "-XX:-UsePerfData",
		"-Djava.io.tmpdir="+t.Folder, "-Dlog4j2.configurationFile="+filepath.Join(t.Folder, "log4j2.properties"),
		"-cp", filepath.Join(c.folder, "connect", "*"), "org.apache.kafka.connect.cli.ConnectStandalone",
		filepath.Join(t.Folder, "worker.properties"), filepath.Join(t.Folder, "connector.properties"))
	cmd.Env, cmd.Dir = environment(), t.Folder
	return cmd
}
