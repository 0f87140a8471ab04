package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"eventhooks/internal/goldentest"
	"eventhooks/internal/local"
)

func TestHooks_ofTwoWritersAtOnceOneWins(t *testing.T) {
	w := start(t, local.Options{})
	twoWriters(t, w.server(), 50)
}

func TestLambda_ofTwoWritersAtOnceOneWins(t *testing.T) {
	c := deploy(t, "race", forTheTest, nil)
	c.mint()
	twoWriters(t, c.server(), 5)
	c.judge.denied(t)
}

// twoWriters lets two clients change one hook at the same moment, again and
// again.
func twoWriters(t *testing.T, s goldentest.Server, rounds int) {
	hook := must(t, s, http.StatusCreated, "POST", "/event-hooks", `{"source":"crud","event":"consumers","handler":"log","name":"none","tags":["none"]}`)
	path := "/event-hooks/" + hook.body["id"].(string)
	writes := []string{`{"name":"%d"}`, `{"tags":["%d"]}`}

	// atOnce sends both writes of a round together and returns their answers.
	atOnce := func(t *testing.T, round int, header ...string) []answer {
		t.Helper()
		answers, errs := make([]answer, len(writes)), make([]error, len(writes))
		var both sync.WaitGroup
		starter := make(chan struct{})
		for i := range writes {
			both.Go(func() {
				<-starter
				answers[i], errs[i] = ask(t.Context(), s, "PATCH", path, fmt.Sprintf(writes[i], round), header...)
			})
		}
		close(starter)
		both.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		return answers
	}
	wrote := func(body map[string]any, i, round int) bool {
		if i == 0 {
			return body["name"] == fmt.Sprint(round)
		}
		return body["tags"].([]any)[0] == fmt.Sprint(round)
	}

	t.Run("of the version that both read, one write is refused and leaves no trace", func(t *testing.T) {
		for round := range rounds {
			read := must(t, s, http.StatusOK, "GET", path, "")
			answers := atOnce(t, round, "If-Match", read.header.Get("ETag"))
			winner := slices.IndexFunc(answers, func(a answer) bool { return a.status == http.StatusOK })
			if winner < 0 || answers[1-winner].status != http.StatusPreconditionFailed {
				t.Fatalf("round %d: answers = %d and %d; want 200 and 412", round, answers[0].status, answers[1].status)
			}
			now := must(t, s, http.StatusOK, "GET", path, "")
			if !wrote(now.body, winner, round) || wrote(now.body, 1-winner, round) {
				t.Fatalf("round %d: the hook is %v; want what the winner, %d, wrote and nothing of the other", round, now.body, winner)
			}
			if got, want := now.header.Get("ETag"), answers[winner].header.Get("ETag"); got != want || got == read.header.Get("ETag") {
				t.Fatalf("round %d: ETag = %s; want the winner's, %s, and another than before", round, got, want)
			}
		}
	})
	t.Run("without a version both writes are merged", func(t *testing.T) {
		for round := range rounds {
			round += rounds
			for i, a := range atOnce(t, round) {
				if a.status != http.StatusOK {
					t.Fatalf("round %d: write %d = %d; want 200", round, i, a.status)
				}
			}
			if now := must(t, s, http.StatusOK, "GET", path, ""); !wrote(now.body, 0, round) || !wrote(now.body, 1, round) {
				t.Fatalf("round %d: the hook is %v; want both writes", round, now.body)
			}
		}
	})
	t.Run("of two that create one id, one does", func(t *testing.T) {
		for round := range rounds {
			id := fmt.Sprintf("00000000-0000-4000-8000-%012d", round)
			statuses := make(chan int, 2)
			for range 2 {
				go func() {
					a, err := ask(t.Context(), s, "POST", "/event-hooks", fmt.Sprintf(`{"id":%q,"source":"crud","handler":"log"}`, id))
					if err != nil {
						a.status = 0
					}
					statuses <- a.status
				}()
			}
			got := []int{<-statuses, <-statuses}
			slices.Sort(got)
			if want := []int{http.StatusCreated, http.StatusBadRequest}; !slices.Equal(got, want) {
				t.Fatalf("round %d: answers = %v; want %v", round, got, want)
			}
		}
	})
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

// ask makes a request as admin; header is name, value, name, value.
func ask(ctx context.Context, s goldentest.Server, method, path, body string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+s.Vars["admin_token"])
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &a.body)
	}
	return a, err
}

// must asks and wants the status.
func must(t testing.TB, s goldentest.Server, want int, method, path, body string) answer {
	t.Helper()
	a, err := ask(t.Context(), s, method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	if a.status != want {
		t.Fatalf("%s %s = %d %v; want %d", method, path, a.status, a.body, want)
	}
	return a
}

// BenchmarkHooks measures the admin API of the local system over HTTP, by how
// many hooks there are: pages of the list, a create, a change. What it
// creates stays, so a few more than it says are there in the end.
func BenchmarkHooks(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("hooks=%d", n), func(b *testing.B) { benchmarkHooks(b, n) })
	}
}

func benchmarkHooks(b *testing.B, n int) {
	s := start(b, local.Options{}).server()
	create := func(b *testing.B, i int) string {
		return must(b, s, http.StatusCreated, "POST", "/event-hooks", fmt.Sprintf(
			`{"source":"crud","event":"consumers","handler":"webhook-custom","name":"hook %d","tags":["t%d"],
			"config":{"method":"POST","url":"https://hooks.example.test/%d","headers":{"Content-Type":"application/json"},"secret":"topsecret",
			"payload":{"text":"Consumer {{ entity.username }} {{ operation }}d"}}}`, i, i%10, i)).body["id"].(string)
	}
	ids := make([]string, n)
	var makers sync.WaitGroup
	next := make(chan int)
	for range 32 { // together they share their waits for the disk
		makers.Go(func() {
			for i := range next {
				ids[i] = create(b, i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	makers.Wait()

	pages := []string{"/event-hooks"} // of 100
	for {
		page := must(b, s, http.StatusOK, "GET", pages[len(pages)-1], "").body
		path, more := page["next"].(string)
		if !more {
			break
		}
		pages = append(pages, path)
	}
	if len(pages) != n/100 {
		b.Fatalf("%d pages of %d hooks; want %d", len(pages), n, n/100)
	}
	for _, page := range []struct {
		name string
		at   int
	}{{"first", 0}, {"middle", len(pages) / 2}, {"last", len(pages) - 1}} {
		b.Run("page="+page.name, func(b *testing.B) {
			for b.Loop() {
				if a := must(b, s, http.StatusOK, "GET", pages[page.at], ""); len(a.body["data"].([]any)) != 100 {
					b.Fatalf("a page of %d; want 100", len(a.body["data"].([]any)))
				}
			}
		})
	}
	b.Run("read", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			must(b, s, http.StatusOK, "GET", "/event-hooks/"+ids[i*7919%n], "")
		}
	})
	b.Run("create", func(b *testing.B) {
		for i := n; b.Loop(); i++ {
			create(b, i)
		}
	})
	b.Run("update", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			must(b, s, http.StatusOK, "PATCH", "/event-hooks/"+ids[i*7919%n], fmt.Sprintf(`{"name":"changed %d"}`, i))
		}
	})
}
