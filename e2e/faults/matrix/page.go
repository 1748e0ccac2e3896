package matrix

// Page says where a table's results are, and how they are rendered.
type Page struct {
	Results string // file with the results
	Render  func([]Result) string
}

// Pages are those with generated tables. Paths are relative to e2e/faults.
var Pages = map[string]Page{
	"../../docs/reliability.md":    {Results: "results.json", Render: Tables},
	"../../docs/kafka-versions.md": {Results: "kafka.json", Render: KafkaTables},
}
