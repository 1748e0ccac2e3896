package matrix

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Begin and End enclose the generated part of a page.
const (
	Begin = "<!-- begin of the generated table: make faults -->"
	End   = "<!-- end of the generated table -->"
)

// Insert returns the page with the text between its markers replaced.
func Insert(page, text string) (string, error) {
	before, rest, begun := strings.Cut(page, Begin)
	_, after, ended := strings.Cut(rest, End)
	if !begun || !ended {
		return "", fmt.Errorf("page has no %q followed by %q", Begin, End)
	}
	return before + Begin + "\n\n" + text + "\n" + End + after, nil
}

// Tables renders the totals and one table for each group. Each table has a line
// for each fault and a column for each version of PostgreSQL.
func Tables(results []Result) string { return tables(results, postgresMajor) }

// KafkaTables renders the same with a column for each version of Kafka.
func KafkaTables(results []Result) string { return tables(results, kafkaMinor) }

// column returns the version that a result is shown under.
type column func(Result) string

func postgresMajor(r Result) string {
	major, _, _ := cutVersion(r.PostgreSQL)
	return major
}

// kafkaMinor returns the release line, for example 4.3 of 4.3.1.
func kafkaMinor(r Result) string {
	major, rest, _ := cutVersion(r.Kafka)
	minor, _, found := cutVersion(rest)
	if !found {
		return r.Kafka
	}
	return major + "." + minor
}

func tables(results []Result, of column) string {
	var text strings.Builder
	text.WriteString(totals(results))
	versions := columnsOf(results, of)
	byGroup := map[string][]Result{}
	for _, r := range results {
		byGroup[r.Group] = append(byGroup[r.Group], r)
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		fmt.Fprintf(&text, "\n### %s\n\n", group)
		table(&text, byGroup[group], versions, of)
	}
	return text.String()
}

func totals(results []Result) string {
	var sum Result
	versions, brokers := map[string]bool{}, map[string]bool{}
	outcomes := map[string]int{}
	for _, r := range results {
		sum.Runs += r.Runs
		sum.Injections += r.Injections
		sum.Kills += r.Kills
		sum.Events += r.Events
		sum.Lost += r.Lost
		sum.Phantom += r.Phantom
		sum.Repeated += r.Repeated
		sum.Altered += r.Altered
		sum.Misordered += r.Misordered
		sum.Early += r.Early
		if r.PostgreSQL != "" {
			versions[r.PostgreSQL] = true
		}
		if r.Kafka != "" {
			brokers[r.Kafka] = true
		}
		if r.Group != suiteGroup { // whose tables say what failed
			outcomes[r.Outcome]++
		}
	}
	var servers []string
	if len(versions) > 0 {
		servers = append(servers, "PostgreSQL "+list(versions))
	}
	if len(brokers) > 0 {
		servers = append(servers, "Apache Kafka "+list(brokers))
	}
	return fmt.Sprintf("%d runs on %s: %d survived, %d refused as they should be, %d failed. "+
		"%d injections, %d of them SIGKILLs of the streamer; %d committed events: "+
		"%d lost, %d never committed, %d repeated, %d altered, %d out of order, %d confirmed too early.\n",
		sum.Runs, strings.Join(servers, " and "),
		outcomes[Survived], outcomes[Refused], outcomes[Failed],
		sum.Injections, sum.Kills, sum.Events,
		sum.Lost, sum.Phantom, sum.Repeated, sum.Altered, sum.Misordered, sum.Early)
}

func list(versions map[string]bool) string {
	return strings.Join(slices.SortedFunc(maps.Keys(versions), compareVersions), ", ")
}

// line identifies a row of a table.
type line struct {
	fault, what string
	brokers     int
}

func table(text *strings.Builder, results []Result, versions []string, of column) {
	cells := map[line]map[string]Result{}
	for _, r := range results {
		l := line{r.Fault, r.What, r.Brokers}
		if cells[l] == nil {
			cells[l] = map[string]Result{}
		}
		cells[l][of(r)] = r
	}
	lines := slices.SortedFunc(maps.Keys(cells), func(a, b line) int {
		return cmp.Or(cmp.Compare(a.fault, b.fault), cmp.Compare(a.brokers, b.brokers), cmp.Compare(a.what, b.what))
	})
	fmt.Fprintf(text, "| fault | what happens | brokers |%s\n", columns(versions))
	fmt.Fprintf(text, "|---|---|---|%s\n", strings.Repeat("---|", len(versions)))
	for _, l := range lines {
		fmt.Fprintf(text, "| %s | %s | %s |", l.fault, l.what, dashIfZero(l.brokers))
		for _, v := range versions {
			r, played := cells[l][v]
			if !played {
				text.WriteString(" – |")
				continue
			}
			fmt.Fprintf(text, " %s |", cell(r))
		}
		text.WriteString("\n")
	}
}

// dashIfZero is for suites, which use several clusters.
func dashIfZero(n int) string {
	if n == 0 {
		return "–"
	}
	return strconv.Itoa(n)
}

func columns(versions []string) string {
	var text strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&text, " %s |", v)
	}
	return text.String()
}

// cell renders the outcome, what was done and how often, and the damage if any.
func cell(r Result) string {
	parts := []string{r.Outcome}
	if r.Group != suiteGroup {
		parts = append(parts, fmt.Sprintf("%d×", r.Injections), fmt.Sprintf("%d events", r.Events))
	}
	for _, damage := range []struct {
		count int
		what  string
	}{
		{r.Lost, "lost"},
		{r.Phantom, "never committed"},
		{r.Repeated, "repeated"},
		{r.Altered, "altered"},
		{r.Misordered, "out of order"},
		{r.Early, "confirmed early"},
	} {
		if damage.count > 0 {
			parts = append(parts, fmt.Sprintf("**%d %s**", damage.count, damage.what))
		}
	}
	text := strings.Join(parts, ", ")
	if r.Note != "" {
		text += ": " + strings.NewReplacer("|", "/", "\n", " ").Replace(r.Note)
	}
	return text
}

func columnsOf(results []Result, of column) []string {
	seen := map[string]bool{}
	for _, r := range results {
		seen[of(r)] = true
	}
	return slices.SortedFunc(maps.Keys(seen), compareVersions)
}

func cutVersion(version string) (major, minor string, found bool) {
	return strings.Cut(version, ".")
}

func compareVersions(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(a, b string) int {
		return cmp.Compare(number(a), number(b))
	})
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // anything that is not a number sorts first
	return n
}
