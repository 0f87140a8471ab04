package e2e

import (
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"eventhooks/internal/lambdatest"
	"eventhooks/internal/stack"
)

// BenchmarkStart measures how soon a new process of each function is ready,
// beside a function that has the same clients and does nothing (floor). Two
// medians are reported for each: until its first call to AWS, which is all of
// its own start, and until it asks for its first event, which waits for the
// answers of a server that has nothing stored. x is the first as a multiple of
// floor's: at most 1.15 times is allowed.
func BenchmarkStart(b *testing.B) {
	const rounds = 41
	s, err := stack.Load()
	if err != nil {
		b.Fatal(err)
	}
	var called atomic.Int64 // when the first call came, Unix nanoseconds; 0: not yet
	aws := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called.CompareAndSwap(0, time.Now().UnixNano())
		_, _ = io.Copy(io.Discard, r.Body)
		const nothing = `{}`
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(nothing))), 10))
		_, _ = io.WriteString(w, nothing)
	}))
	defer aws.Close()

	type candidate struct {
		name       string
		o          lambdatest.Options
		call, next []time.Duration
		bytes      int64
	}
	all := []*candidate{{name: "floor", o: lambdatest.Options{Binary: build(b, "./testdata/floor", asDeployed), Env: map[string]string{}}}}
	for _, f := range s.Functions {
		env, err := s.Environment(f.Name, stack.Resources{
			Tables: map[string]string{"ConfigTable": "config", "StateTable": "state"},
			Queues: map[string]string{"EventsQueue": aws.URL + "/events", "RetryQueue": aws.URL + "/retry"},
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, &candidate{name: f.Name, o: lambdatest.Options{
			Binary: build(b, "eventhooks/functions/"+f.Name, asDeployed), Name: f.Name, Env: env, MemoryMB: f.MemoryMB,
		}})
	}
	for _, c := range all {
		c.o.Env["AWS_ENDPOINT_URL"] = aws.URL
		info, err := os.Stat(c.o.Binary)
		if err != nil {
			b.Fatal(err)
		}
		c.bytes = info.Size()
	}

	for b.Loop() {
		for range rounds {
			for _, c := range all { // in turn, so that a busy machine is unfair to none
				called.Store(0)
				f := lambdatest.New(b, c.o)
				began := time.Now()
				next, err := f.Start(b.Context())
				if err != nil {
					b.Fatalf("start %s: %v\n%s", c.name, err, f.Output())
				}
				f.Close()
				if called.Load() == 0 {
					b.Fatalf("%s made no call to AWS while it started", c.name)
				}
				c.call, c.next = append(c.call, time.Unix(0, called.Load()).Sub(began)), append(c.next, next)
			}
		}
	}
	floor := median(all[0].call)
	for _, c := range all {
		b.ReportMetric(ms(median(c.call)), c.name+"-ms-to-call")
		b.ReportMetric(ms(median(c.next)), c.name+"-ms-to-next")
		if c != all[0] {
			b.ReportMetric(float64(median(c.call))/float64(floor), c.name+"-x")
		}
		b.ReportMetric(float64(c.bytes)/1e6, c.name+"-MB")
		b.Logf("%-12s %5.2f MB  %5.2f ms to its first call  %5.2f ms to its first event  %.2f x", c.name,
			float64(c.bytes)/1e6, ms(median(c.call)), ms(median(c.next)), float64(median(c.call))/float64(floor))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2]
}
