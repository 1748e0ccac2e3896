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
func Tables(results []Result) string {
	var text strings.Builder
	text.WriteString(totals(results))
	versions := majors(results)
	byGroup := map[string][]Result{}
	for _, r := range results {
		byGroup[r.Group] = append(byGroup[r.Group], r)
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		fmt.Fprintf(&text, "\n### %s\n\n", group)
		table(&text, byGroup[group], versions)
	}
	return text.String()
}

func totals(results []Result) string {
	var sum Result
	versions := map[string]bool{}
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
		versions[r.PostgreSQL] = true
		outcomes[r.Outcome]++
	}
	return fmt.Sprintf("%d runs on PostgreSQL %s: %d survived, %d refused as they should be, %d failed. "+
		"%d injections, %d of them SIGKILLs of the streamer; %d committed events: "+
		"%d lost, %d never committed, %d repeated, %d altered, %d out of order, %d confirmed too early.\n",
		sum.Runs, strings.Join(slices.SortedFunc(maps.Keys(versions), compareVersions), ", "),
		outcomes[Survived], outcomes[Refused], outcomes[Failed],
		sum.Injections, sum.Kills, sum.Events,
		sum.Lost, sum.Phantom, sum.Repeated, sum.Altered, sum.Misordered, sum.Early)
}

// line identifies a row of a table.
type line struct {
	fault, what string
	brokers     int
}

func table(text *strings.Builder, results []Result, versions []string) {
	cells := map[line]map[string]Result{}
	for _, r := range results {
		l := line{r.Fault, r.What, r.Brokers}
		if cells[l] == nil {
			cells[l] = map[string]Result{}
		}
		major, _, _ := cutVersion(r.PostgreSQL)
		cells[l][major] = r
	}
	lines := slices.SortedFunc(maps.Keys(cells), func(a, b line) int {
		return cmp.Or(cmp.Compare(a.fault, b.fault), cmp.Compare(a.brokers, b.brokers))
	})
	fmt.Fprintf(text, "| fault | what happens | brokers |%s\n", columns(versions))
	fmt.Fprintf(text, "|---|---|---|%s\n", strings.Repeat("---|", len(versions)))
	for _, l := range lines {
		fmt.Fprintf(text, "| %s | %s | %d |", l.fault, l.what, l.brokers)
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

func columns(versions []string) string {
	var text strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&text, " %s |", v)
	}
	return text.String()
}

// cell renders the outcome, what was done and how often, and the damage if any.
func cell(r Result) string {
	parts := []string{r.Outcome, fmt.Sprintf("%d×", r.Injections), fmt.Sprintf("%d events", r.Events)}
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

func majors(results []Result) []string {
	seen := map[string]bool{}
	for _, r := range results {
		major, _, _ := cutVersion(r.PostgreSQL)
		seen[major] = true
	}
	return slices.SortedFunc(maps.Keys(seen), compareVersions)
}

func cutVersion(version string) (major, minor string, found bool) {
	return strings.Cut(version, ".")
}

func compareVersions(a, b string) int {
	majorA, minorA, _ := cutVersion(a)
	majorB, minorB, _ := cutVersion(b)
	return cmp.Or(cmp.Compare(number(majorA), number(majorB)), cmp.Compare(number(minorA), number(minorB)))
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // anything that is not a number sorts first
	return n
}
