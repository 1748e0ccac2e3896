package rig

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/bench/internal/report"
	"github.com/outboxstream/streamer/bench/internal/workload"
	"github.com/outboxstream/streamer/internal/kafkatest"
)

// describe records what is compared, and on which machine.
func (r *Rig) describe(ctx context.Context, result *report.Report) {
	result.Machine = machine()
	version := r.postgres.Version() // the format of version numbers since PostgreSQL 10
	result.Versions = []report.Version{
		{Name: "streamer", Version: commit(ctx)},
		{Name: "PostgreSQL", Version: fmt.Sprintf("%d.%d", version/10_000, version%10_000)},
		{Name: "Apache Kafka", Version: kafkatest.Version()},
		{Name: "Debezium", Version: contender.DebeziumVersion},
		{Name: "Go", Version: runtime.Version()},
		{Name: "sarama", Version: r.moduleVersion("github.com/IBM/sarama")},
		{Name: "pglogrepl", Version: r.moduleVersion("github.com/jackc/pglogrepl")},
	}
	result.PostgreSQL = map[string]string{"fsync": "off"}
	maps.Copy(result.PostgreSQL, settings)
	for _, c := range r.contenders {
		result.Contenders = append(result.Contenders, report.Described{Name: c.Name(), About: c.About()})
	}
	result.LeftOut = r.leftOut
}

func describe(w workload.Workload) string {
	shape := fmt.Sprintf("payloads of about %d bytes, %d topics with %d partitions in all", w.PayloadBytes, w.Types, w.Types*w.Partitions)
	if w.Steady() {
		return fmt.Sprintf("%s; %v each; %s", w.About, w.Duration, shape)
	}
	return fmt.Sprintf("%s; %d rows; %s", w.About, w.Rows, shape)
}

func machine() report.Machine {
	m := report.Machine{CPU: "unknown", Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kilobytes, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.Memory = kilobytes << 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + string(bytes.TrimSpace(release))
	}
	return m
}

// field returns the value after the first "name :" of a file of /proc.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// commit is the source's commit, with a mark if files have been changed since.
func commit(ctx context.Context) string {
	output, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--tags").Output()
	if err != nil {
		return "unknown commit"
	}
	return strings.TrimSpace(string(output))
}

// moduleVersion is the version in the baseline, which uses the same one as the
// streamer.
func (r *Rig) moduleVersion(path string) string {
	info, err := buildinfo.ReadFile(contender.Programs{Folder: r.folder.Path}.Of("baseline"))
	if err != nil {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
