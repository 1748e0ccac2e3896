package kafkatest

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

const oldestJava = 17

//go:embed pom.xml
var pom []byte

// javaLauncher runs Kafka from jars.
type javaLauncher struct {
	java      string
	classpath string
}

func newJavaLauncher(ctx context.Context, progress func(string)) (*javaLauncher, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	if err := checkJava(ctx, java); err != nil {
		return nil, err
	}
	jars, err := testserver.Cached(ctx, "kafka-"+Version(), progress, func(folder string) error {
		return downloadJars(ctx, folder, progress)
	})
	if err != nil {
		return nil, err
	}
	return &javaLauncher{java: java, classpath: filepath.Join(jars, "*")}, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

func checkJava(ctx context.Context, java string) error {
	output, err := run(ctx, java, "-version")
	if err != nil {
		return fmt.Errorf("run java -version: %w", err)
	}
	found := javaVersion.FindStringSubmatch(output)
	if found == nil {
		return fmt.Errorf("no version in the output of java -version: %q", output)
	}
	if major, err := strconv.Atoi(found[1]); err != nil || major < oldestJava {
		return fmt.Errorf("version %s of Java found, %d or newer needed: set JAVA_HOME to another one", found[1], oldestJava)
	}
	return nil
}

func downloadJars(ctx context.Context, folder string, progress func(string)) error {
	if _, err := exec.LookPath("mvn"); err != nil {
		return fmt.Errorf("download Apache Kafka: Maven is not installed: %w", err)
	}
	testserver.Report(progress, "downloading Apache Kafka %s from Maven Central (about 45 MB)", Version())
	project, err := os.MkdirTemp(folder, "pom")
	if err != nil {
		return fmt.Errorf("make folder for Maven: %w", err)
	}
	defer os.RemoveAll(project)
	pomFile := filepath.Join(project, "pom.xml")
	if err := os.WriteFile(pomFile, pom, 0o600); err != nil {
		return fmt.Errorf("write pom.xml: %w", err)
	}
	output, err := run(ctx, "mvn", "-q", "-B", "-f", pomFile, "-Dkafka.version="+Version(),
		"dependency:copy-dependencies", "-DoutputDirectory="+folder)
	if err != nil {
		return fmt.Errorf("download Apache Kafka: mvn: %w\n%s", err, output)
	}
	testserver.Report(progress, "downloaded Apache Kafka %s", Version())
	return nil
}

func (l *javaLauncher) command(ctx context.Context, b *broker, class string, options []string, args ...string) *exec.Cmd {
	options = append(jvmOptions(b, options), "-cp", l.classpath, class)
	cmd := exec.CommandContext(ctx, l.java, append(options, args...)...)
	cmd.Dir = b.folder
	return cmd
}

func (l *javaLauncher) signal(b *broker, signal syscall.Signal) error {
	return b.process.Signal(signal)
}
