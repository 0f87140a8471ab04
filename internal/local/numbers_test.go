package local

import (
	"testing"
	"time"

	"eventhooks/internal/stack"
)

// TestNumbers compares what local mode does with what the template deploys.
func TestNumbers(t *testing.T) {
	s, err := stack.Load()
	if err != nil {
		t.Fatal(err)
	}
	f, ok := s.Function("deliver")
	if !ok {
		t.Fatal("the template has no deliver function")
	}
	if f.Timeout != functionTimeout {
		t.Errorf("timeout = %v; template.yaml says %v", functionTimeout, f.Timeout)
	}
	concurrency := map[string]int{eventsQueue: freshConcurrency, retryQueue: retryConcurrency}
	for _, src := range f.Sources {
		if src.Batch != batchSize || src.MaxConcurrency != concurrency[src.Queue] {
			t.Errorf("%s: batches of %d, %d at once; template.yaml says %d and %d", src.Queue, batchSize, concurrency[src.Queue], src.Batch, src.MaxConcurrency)
		}
		q, ok := s.Queue(src.Queue)
		if !ok || q.MaxReceives != maxReceives {
			t.Errorf("%s: %d receives before a dead letter; template.yaml says %d", src.Queue, maxReceives, q.MaxReceives)
		}
		if q.Visibility < f.Timeout+src.Window+time.Second {
			t.Errorf("%s: a message is visible again after %v, while a function may still work on it", src.Queue, q.Visibility)
		}
	}
	if len(f.Sources) != len(concurrency) {
		t.Errorf("deliver has %d queues; want %d", len(f.Sources), len(concurrency))
	}
}
