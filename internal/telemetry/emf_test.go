package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/telemetry"
)

var at = time.Date(2026, 11, 21, 18, 0, 0, 123e6, time.UTC)

func TestEMF_Put(t *testing.T) {
	var out bytes.Buffer
	telemetry.New(&out, "stack-DeliverFunction-1", func() time.Time { return at }).Put(map[string]int64{"Parked": 2, "Delivered": 40})
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%v in %q; want one line of JSON", err, out.String())
	}
	want := map[string]any{
		"_aws": map[string]any{
			"Timestamp": float64(at.UnixMilli()),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace":  "EventHooks",
				"Dimensions": []any{[]any{"Function"}},
				"Metrics": []any{
					map[string]any{"Name": "Delivered", "Unit": "Count"},
					map[string]any{"Name": "Parked", "Unit": "Count"},
				},
			}},
		},
		"Function": "stack-DeliverFunction-1", "Delivered": 40.0, "Parked": 2.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEMF_Put_nothing(t *testing.T) {
	var out bytes.Buffer
	telemetry.New(&out, "f", nil).Put(nil)
	if out.Len() > 0 {
		t.Errorf("%q was written; want nothing", out.String())
	}
}

// CloudWatch drops a line with more than 100 metrics.
func TestEMF_Put_tooMany(t *testing.T) {
	counts := map[string]int64{}
	for i := range 120 {
		counts[fmt.Sprintf("Metric%03d", i)] = 1
	}
	var out bytes.Buffer
	telemetry.New(&out, "f", nil).Put(counts)
	if n := strings.Count(out.String(), `"Unit":"Count"`); n != 100 {
		t.Errorf("%d metrics; want 100", n)
	}
}

func TestEMF_Put_atOnce(t *testing.T) {
	var out lines
	e := telemetry.New(&out, "f", nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { e.Put(map[string]int64{"Delivered": 1}) })
	}
	wg.Wait()
	if out != 20 {
		t.Errorf("%d whole lines; want 20", out)
	}
}

// lines counts writes that are one line each. It fails all the same: that is
// nobody's concern.
type lines int

func (l *lines) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, '\n') == len(p)-1 {
		*l++
	}
	return 0, errors.New("full")
}
