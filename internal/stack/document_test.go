package stack_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/stack"
)

// TestArchitecture_numbers holds the tables of docs/architecture.md to the
// template.
func TestArchitecture_numbers(t *testing.T) {
	s, err := stack.Load()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	want := func(row string) {
		t.Helper()
		if !strings.Contains(string(doc), row) {
			t.Errorf("docs/architecture.md lacks the row %q, which is what the template says", row)
		}
	}
	batches := map[string]stack.Source{}
	for _, f := range s.Functions {
		want(fmt.Sprintf("| %s | %d | %d |", f.Name, f.Timeout/time.Second, f.MemoryMB))
		for _, src := range f.Sources {
			batches[src.Queue] = src
		}
	}
	for _, q := range s.Queues {
		if q.DeadLetter == "" {
			continue
		}
		b := batches[q.ID]
		want(fmt.Sprintf("| %s | %d | %d | %d | %d | %d |", q.ID, q.Visibility/time.Second, q.Retention/(24*time.Hour), q.MaxReceives, b.Batch, b.MaxConcurrency))
	}
}
