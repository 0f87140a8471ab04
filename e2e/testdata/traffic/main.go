// Command traffic is the world around the system when it is measured: a
// receiver, a client that posts events, and a client that only posts, each in a
// process of its own so that its CPU time is nobody else's.
//
//	traffic receive                  prints its URL; GET /count?at-least=N waits for N events
//	traffic events  -url -token -n   posts n events in batches
//	traffic bare    -url -n          posts n bodies to a receiver, by net/http alone
//
// The clients print {"cpu_ms":…,"took_ms":…}.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(mode string, args []string) error {
	if mode == "receive" {
		return receive()
	}
	f := flag.NewFlagSet(mode, flag.ContinueOnError)
	url, token := f.String("url", "", ""), f.String("token", "", "")
	n, batch, clients := f.Int("n", 1000, ""), f.Int("batch", 1, ""), f.Int("clients", 16, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	one := Body()
	want, body := http.StatusOK, one
	if mode == "events" {
		want = http.StatusAccepted
		body = "[" + strings.Repeat(one+",", *batch-1) + one + "]"
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients}}
	post := func() error {
		req, err := http.NewRequest(http.MethodPost, *url, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		if *token != "" {
			req.Header.Set("Authorization", "Bearer "+*token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != want {
			return fmt.Errorf("answer %d; want %d", resp.StatusCode, want)
		}
		return nil
	}
	var left atomic.Int64
	left.Store(int64(*n / *batch))
	var failed atomic.Pointer[error]
	cpu, began := used(), time.Now()
	var wg sync.WaitGroup
	for range *clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 && failed.Load() == nil {
				if err := post(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return *err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"cpu_ms": (used() - cpu).Seconds() * 1000, "took_ms": took.Seconds() * 1000,
	})
}

// Body is an event's data, of 1,000 bytes.
func Body() string {
	const head, tail = `{"item":"tea","price":3.20,"note":"`, `"}`
	return head + strings.Repeat("x", 1000-len(head)-len(tail)) + tail
}

// used is the CPU time of this process so far.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func receive() error {
	var mu sync.Mutex
	more := sync.NewCond(&mu)
	count := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || bytes.Contains(body, []byte(`"kong:event_hooks"`)) {
			return // a new hook's ping
		}
		mu.Lock()
		count++
		more.Broadcast()
		mu.Unlock()
	})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, r *http.Request) {
		least, _ := strconv.Atoi(r.FormValue("at-least"))
		stop := time.AfterFunc(time.Minute, func() { mu.Lock(); defer mu.Unlock(); least = 0; more.Broadcast() })
		defer stop.Stop()
		mu.Lock()
		defer mu.Unlock()
		for count < least {
			more.Wait()
		}
		fmt.Fprint(w, count)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return http.Serve(l, mux)
}
