// Package rig runs the comparison: it starts PostgreSQL and Kafka, writes the
// workloads, lets the contenders work on them one after the other, round by
// round, and measures.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/outboxstream/streamer/bench/internal/broker"
	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/bench/internal/process"
	"github.com/outboxstream/streamer/bench/internal/report"
	"github.com/outboxstream/streamer/bench/internal/workload"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// Options of a run.
type Options struct {
	Workloads []workload.Workload // at full size
	// Contenders are names, or prefixes of names; empty: all.
	Contenders []string
	Scale      float64
	Rounds     int
	PostgreSQL string // version; empty: the installed one
	// Before is a commit whose streamer takes part as well; empty: none.
	Before string
	// BrokerCores is how many cores Kafka has for itself, while everything else
	// shares the others; 0: everything shares all.
	BrokerCores int
	Limit       time.Duration // for each measurement
	Profiles    string        // folder for CPU profiles of the streamer at steady rates; empty: none are made
	Progress    func(string)  // called with what happens
}

// Rig is the servers and the programs of a run. It is not for concurrent use.
type Rig struct {
	options    Options
	folder     *testserver.Folder
	postgres   *pgtest.Server
	kafka      *kafkatest.Cluster
	contenders []contender.Contender
	leftOut    []report.Described
	runs       int // measurements so far, for unique names
}

// PostgreSQL's settings, in addition to those of pgtest. Nothing but the
// contender may work during the measurement: no checkpoint, no autovacuum.
var settings = map[string]string{
	"synchronous_commit": "on",
	"shared_buffers":     "256MB",
	"max_wal_size":       "64GB",
	"checkpoint_timeout": "1h",
	"autovacuum":         "off",
}

// Open starts the servers and builds the programs. The caller must close the
// rig.
func Open(ctx context.Context, options Options) (*Rig, error) {
	r := &Rig{options: options}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close()) //nolint:contextcheck // cleaning up outlives the context
	}
	return r, nil
}

func (r *Rig) open(ctx context.Context) (err error) {
	if r.folder, err = testserver.NewFolder("", "bench"); err != nil {
		return err
	}
	if err := r.checkDisk(); err != nil {
		return err
	}
	if err := r.startServers(ctx); err != nil {
		return err
	}
	programs := contender.Programs{Folder: r.folder.Path}
	r.say("building the programs")
	if err := programs.Build(ctx); err != nil {
		return err
	}
	if err := r.findContenders(ctx, programs); err != nil {
		return err
	}
	return r.warmUp(ctx, programs)
}

// startServers starts both servers. If Kafka is to have cores for itself, this
// process is restricted to them while it starts Kafka, and to the others from
// then on: what it starts inherits that.
func (r *Rig) startServers(ctx context.Context) error {
	others, ofBroker, err := r.cores()
	if err != nil {
		return err
	}
	r.say("starting PostgreSQL and Kafka")
	if err := pin(ctx, ofBroker); err != nil {
		return err
	}
	r.kafka, err = kafkatest.Start(ctx, kafkatest.Options{
		Progress: r.options.Progress,
		// Brokers of tests are small and start quickly; this one runs for long.
		JVMOptions: []string{"-Xmx1g", "-XX:TieredStopAtLevel=4"},
		Settings:   map[string]string{"log.segment.bytes": "268435456", "log.segment.delete.delay.ms": "1000"},
	})
	if err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	if err := pin(ctx, others); err != nil {
		return err
	}
	r.postgres, err = pgtest.Start(ctx, pgtest.Options{Version: r.options.PostgreSQL, Settings: settings, Progress: r.options.Progress})
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return nil
}

// cores divides the cores, if Kafka is to have some for itself.
func (r *Rig) cores() (others, ofBroker []int, err error) {
	if r.options.BrokerCores == 0 {
		return nil, nil, nil
	}
	all, err := process.Cores(os.Getpid())
	if err != nil {
		return nil, nil, err
	}
	return process.Split(all, r.options.BrokerCores)
}

// pin restricts this process to some cores; nil changes nothing.
func pin(ctx context.Context, cores []int) error {
	if cores == nil {
		return nil
	}
	return process.Pin(ctx, os.Getpid(), cores)
}

// checkDisk refuses a run that would fill the disk.
func (r *Rig) checkDisk() error {
	var file syscall.Statfs_t
	if err := syscall.Statfs(r.folder.Path, &file); err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	free := int64(file.Bavail) * file.Bsize
	var needed int64
	for _, w := range r.options.Workloads {
		needed = max(needed, w.Scaled(r.options.Scale).Bytes())
	}
	const others = 4 << 30 // servers, segments, topics of earlier contenders that Kafka deletes late
	needed = 3*needed + others
	if free < needed {
		return fmt.Errorf("free space in %s: %d GB, and about %d GB are needed: choose a smaller -scale", r.folder.Path, free>>30, needed>>30)
	}
	return nil
}

// findContenders creates the contenders that are wanted and available.
func (r *Rig) findContenders(ctx context.Context, programs contender.Programs) error {
	for _, raw := range contender.Raws(programs, r.postgres.BinDir()) {
		r.add(raw)
	}
	variants := slices.DeleteFunc(contender.Variants(), func(v contender.Variant) bool { return !r.wanted(v.Name) })
	if r.options.Before != "" {
		if err := programs.BuildBefore(ctx, r.options.Before); err != nil {
			return err
		}
		variants = append(variants, contender.Before(r.options.Before))
	}
	for _, variant := range variants {
		if r.options.Profiles != "" {
			variant = variant.Profiled()
		}
		s, err := contender.NewStreamer(ctx, programs, variant)
		if err != nil {
			r.leaveOut(variant.Name, err)
			continue
		}
		r.contenders = append(r.contenders, s)
	}
	r.add(contender.Baseline{Programs: programs})
	r.addDebezium(ctx)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(r.contenders) == 0 {
		return fmt.Errorf("no contender remains of %s", strings.Join(r.options.Contenders, ","))
	}
	return nil
}

func (r *Rig) addDebezium(ctx context.Context) {
	all := contender.Debeziums(nil)
	wanted := false
	for _, d := range all {
		wanted = wanted || r.wanted(d.Name())
	}
	if !wanted {
		return
	}
	connect, err := contender.InstallConnect(ctx, r.options.Progress)
	if err != nil {
		r.leaveOut("debezium", err)
		return
	}
	for _, d := range contender.Debeziums(connect) {
		r.add(d)
	}
}

func (r *Rig) add(c contender.Contender) {
	if r.wanted(c.Name()) {
		r.contenders = append(r.contenders, c)
	}
}

func (r *Rig) leaveOut(name string, err error) {
	r.say("left out: %s: %v", name, err)
	r.leftOut = append(r.leftOut, report.Described{Name: name, About: firstLine(err.Error())})
}

// wanted: "streamer" wants streamer-stream as well, "debezium" debezium-tuned;
// "=streamer" wants only itself.
func (r *Rig) wanted(name string) bool {
	return len(r.options.Contenders) == 0 || matchesAny(name, r.options.Contenders)
}

func matchesAny(name string, wishes []string) bool {
	return slices.ContainsFunc(wishes, func(wish string) bool { return matches(name, wish) })
}

func matches(name, wish string) bool {
	return name == wish || "="+name == wish || strings.HasPrefix(name, wish+"-")
}

// warmUp lets the broker's JVM compile what it needs, and creates its topic of
// transactions. Otherwise both would be charged to the first contender.
func (r *Rig) warmUp(ctx context.Context, programs contender.Programs) error {
	const rows, topics = 3_000_000, 4
	t := contender.Task{
		Folder:  r.folder.Path,
		Brokers: r.kafka.Brokers(),
		Prefix:  "warm-up.",
		Rows:    max(rows/100, int64(rows*min(1, r.options.Scale))),
		Payload: 300,
		Types:   topics,
	}
	for i := range topics {
		t.Topics = append(t.Topics, t.Prefix+workload.Type(i))
	}
	if err := broker.CreateTopics(ctx, r.kafka, t.Topics, 2); err != nil {
		return err
	}
	if err := contender.Produce(ctx, programs, t); err != nil {
		return fmt.Errorf("warm up Kafka: %w", err)
	}
	if err := broker.Transact(t.Brokers, t.Topics[0]); err != nil {
		return fmt.Errorf("warm up Kafka: %w", err)
	}
	return broker.DeleteTopics(r.kafka, t.Topics)
}

// Close stops the servers and removes everything.
func (r *Rig) Close() error {
	var problems []error
	if r.kafka != nil {
		problems = append(problems, r.kafka.Close())
	}
	if r.postgres != nil {
		problems = append(problems, r.postgres.Close())
	}
	if r.folder != nil {
		problems = append(problems, r.folder.Remove())
	}
	return errors.Join(problems...)
}

func (r *Rig) say(format string, arguments ...any) {
	testserver.Report(r.options.Progress, format, arguments...)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
