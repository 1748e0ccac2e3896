// Command suite reads the output of go test -json and adds to a file of results
// how the tests of each package went on a version of Kafka. It repeats what
// failed on standard error and exits with 1 if anything did. make kafka uses it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
)

func main() {
	kafka := flag.String("kafka", "", "version of Kafka that the tests ran on")
	path := flag.String("results", "kafka.json", "file of results")
	only := flag.String("run", "", "pattern of the tests that ran; empty: all")
	flag.Parse()
	failed, err := record(os.Stdin, os.Stderr, *path, func(s *matrix.Suite) matrix.Result { return s.Result(*kafka, *only) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "record the tests:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

func record(events io.Reader, complaints io.Writer, path string, result func(*matrix.Suite) matrix.Result) (failed bool, err error) {
	suites, err := matrix.ReadSuites(events, complaints)
	if err == nil && len(suites) == 0 {
		err = errors.New("no test has run")
	}
	if err != nil {
		return false, err
	}
	older, err := matrix.Load(path)
	if err != nil {
		return false, err
	}
	var newer []matrix.Result
	for _, s := range suites {
		newer = append(newer, result(s))
		failed = failed || s.Failed()
	}
	return failed, matrix.Save(path, matrix.Merge(older, newer))
}
