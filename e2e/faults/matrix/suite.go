package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Passed is the outcome of a suite without a failure.
const Passed = "passed"

const suiteGroup = "Test suites"

// Suite is how the tests of a package went.
type Suite struct {
	Package         string
	Passed, Skipped int
	FailedTests     []string
	Seconds         float64
	ended, broken   bool
}

// Failed reports whether a test failed, or the package did not end.
func (s *Suite) Failed() bool { return len(s.FailedTests) > 0 || s.broken || !s.ended }

// Result is what the table shows. only is the pattern of the tests that ran,
// empty for all.
func (s *Suite) Result(kafka, only string) Result {
	what := "all tests of the package"
	if only != "" {
		what = "tests named `" + strings.ReplaceAll(only, "|", `\|`) + "`"
	}
	r := Result{
		Fault: "`go test " + s.Package + "`", What: what, Group: suiteGroup, Kafka: kafka,
		Outcome: Passed, Seconds: s.Seconds, Note: fmt.Sprintf("%d passed", s.Passed),
	}
	if s.Failed() {
		r.Outcome = Failed
		r.Note += fmt.Sprintf(", %d failed: %s", len(s.FailedTests), strings.Join(s.FailedTests, ", "))
	}
	if s.Skipped > 0 {
		r.Note += fmt.Sprintf("; %d skipped", s.Skipped)
	}
	return r
}

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// ReadSuites reads the output of go test -json, one suite for each package in
// the order of their names, and copies the output of failed tests.
func ReadSuites(events io.Reader, complaints io.Writer) ([]*Suite, error) {
	suites, outputs := map[string]*Suite{}, map[string]*strings.Builder{}
	for decoder := json.NewDecoder(events); ; {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read output of go test: %w", err)
		}
		if e.Package == "" {
			continue // output of the build
		}
		name := e.Package + " " + e.Test
		if outputs[name] == nil {
			outputs[name] = &strings.Builder{}
		}
		outputs[name].WriteString(e.Output)
		if suites[e.Package] == nil {
			suites[e.Package] = &Suite{Package: shortPackage(e.Package)}
		}
		suites[e.Package].add(e)
		if e.Action == "fail" {
			fmt.Fprintf(complaints, "%s\n%s\n", name, outputs[name])
		}
	}
	var sorted []*Suite
	for _, s := range suites {
		sorted = append(sorted, s)
	}
	slices.SortFunc(sorted, func(a, b *Suite) int { return strings.Compare(a.Package, b.Package) })
	return sorted, nil
}

// add counts the outcome of a test or a package. Parts of a test count with it.
func (s *Suite) add(e event) {
	if strings.Contains(e.Test, "/") {
		return
	}
	switch outcome := e.Action; {
	case e.Test == "" && (outcome == "pass" || outcome == "fail" || outcome == "skip"):
		s.ended, s.broken, s.Seconds = true, outcome == "fail", e.Elapsed
	case e.Test == "":
	case outcome == "pass":
		s.Passed++
	case outcome == "skip":
		s.Skipped++
	case outcome == "fail":
		s.FailedTests = append(s.FailedTests, e.Test)
	}
}

// shortPackage drops the module's path.
func shortPackage(path string) string {
	const module = "github.com/outboxstream/streamer"
	return "." + strings.TrimPrefix(path, module)
}
