package lambdatest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"eventhooks/internal/lambdatest"
)

func TestAPI(t *testing.T) {
	const (
		path   = "/2015-03-31/functions/probe/invocations"
		signed = "AWS4-HMAC-SHA256 Credential=test/20261121/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
	)
	var f *lambdatest.Function
	api := lambdatest.NewAPI(t, func(name string) *lambdatest.Function {
		if name != "probe" {
			return nil
		}
		return f
	})
	f = lambdatest.New(t, lambdatest.Options{Binary: lambdatest.Build(t, "./testdata/probe"), Name: "probe"})
	// ask asks for an invocation; each edit changes what is asked.
	ask := func(body string, edits ...func(*http.Request)) (status int, kind string) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Authorization", signed)
		r.Header.Set("X-Amz-Invocation-Type", "Event")
		for _, edit := range edits {
			edit(r)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Code, w.Header().Get("X-Amzn-Errortype")
	}

	t.Run("what cannot be invoked is refused as Lambda does", func(t *testing.T) {
		for _, tt := range []struct {
			name, body string
			edit       func(*http.Request)
			status     int
			kind       string
		}{
			{"another operation", "{}", func(r *http.Request) { r.URL.Path = "/2015-03-31/functions/probe" }, 404, "UnknownOperationException"},
			{"another method", "{}", func(r *http.Request) { r.Method = http.MethodGet }, 404, "UnknownOperationException"},
			{"an unknown function", "{}", func(r *http.Request) { r.URL.Path = strings.Replace(path, "probe", "nobody", 1) }, 404, "ResourceNotFoundException"},
			{"no signature", "{}", func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationTokenException"},
			{"a signature for SQS", "{}", func(r *http.Request) { r.Header.Set("Authorization", strings.Replace(signed, "/lambda/", "/sqs/", 1)) }, 403, "MissingAuthenticationTokenException"},
			{"an event that is not JSON", "{", func(*http.Request) {}, 400, "InvalidRequestContentException"},
			{"an event that is too large", `"` + strings.Repeat("x", 1<<20) + `"`, func(*http.Request) {}, 413, "RequestTooLargeException"},
			{"a wait for the answer", "{}", func(r *http.Request) { r.Header.Set("X-Amz-Invocation-Type", "RequestResponse") }, 400, "InvalidParameterValueException"},
		} {
			if status, kind := ask(tt.body, tt.edit); status != tt.status || kind != tt.kind {
				t.Errorf("%s = %d %s; want %d %s", tt.name, status, kind, tt.status, tt.kind)
			}
		}
		if done := api.Wait(); len(done) != 0 {
			t.Errorf("invoked %v; want nothing", done)
		}
	})
	t.Run("an event is promised at once, and its end is known", func(t *testing.T) {
		for _, do := range []string{"pid", "error"} {
			if status, kind := ask(fmt.Sprintf(`{"do":%q}`, do)); status != http.StatusAccepted {
				t.Fatalf("%s = %d %s; want 202", do, status, kind)
			}
			done := api.Wait()
			last := done[len(done)-1]
			if last.Function != "probe" || last.Payload != fmt.Sprintf(`{"do":%q}`, do) || (last.Err != nil) != (do == "error") {
				t.Errorf("last of %d invocations = %+v; want %s of probe", len(done), last, do)
			}
		}
	})
}
