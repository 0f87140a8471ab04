// Package telemetry writes metrics in the embedded metric format of Amazon
// CloudWatch: a line of JSON in the log, of which CloudWatch Logs makes metrics.
// It costs no request, and nothing while nothing happens.
package telemetry

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// Namespace is that of all metrics.
const Namespace = "EventHooks"

// maxMetrics is how many metrics one line may carry.
const maxMetrics = 100

// EMF writes lines of metrics. It is safe for concurrent use.
type EMF struct {
	w        io.Writer
	function string
	now      func() time.Time

	mu sync.Mutex
}

// New returns an EMF that writes each line in one Write. function is the name of
// the Lambda function and the metrics' only dimension, Function: it tells the
// stacks of an account apart. now nil means time.Now.
func New(w io.Writer, function string, now func() time.Time) *EMF {
	if now == nil {
		now = time.Now
	}
	return &EMF{w: w, function: function, now: now}
}

// description is the member _aws of a line, whose other members are the metrics
// and their dimensions: "Specification: Embedded metric format" of the CloudWatch
// user guide.
type description struct {
	Timestamp int64       `json:"Timestamp"` // Unix milliseconds
	Metrics   []directive `json:"CloudWatchMetrics"`
}

type directive struct {
	Namespace  string     `json:"Namespace"`
	Dimensions [][]string `json:"Dimensions"`
	Metrics    []metric   `json:"Metrics"`
}

type metric struct {
	Name string `json:"Name"`
	Unit string `json:"Unit"`
}

// Put writes counts by their metrics' names, at most 100: the first in the order
// of the names. Nothing for none. A line that cannot be written is lost: a metric
// is worth no failure.
func (e *EMF) Put(counts map[string]int64) {
	if len(counts) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(counts))
	names = names[:min(len(names), maxMetrics)]
	d := directive{Namespace: Namespace, Dimensions: [][]string{{"Function"}}}
	line := map[string]any{"Function": e.function}
	for _, name := range names {
		d.Metrics = append(d.Metrics, metric{name, "Count"})
		line[name] = counts[name]
	}
	line["_aws"] = description{e.now().UnixMilli(), []directive{d}}
	b, err := json.Marshal(line)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = e.w.Write(append(b, '\n'))
}
