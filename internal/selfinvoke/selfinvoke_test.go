package selfinvoke_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"eventhooks/internal/hook"
	"eventhooks/internal/selfinvoke"
)

// client is Lambda, as the requests of a test find it.
type client func(*http.Request) (*http.Response, error)

func (c client) Do(r *http.Request) (*http.Response, error) { return c(r) }

func config(c aws.HTTPClient) aws.Config {
	return aws.Config{
		Region: "eu-central-1", HTTPClient: c,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret/key"}, nil
		}),
	}
}

// answer is an answer without a body.
func answer(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}
}

var part = hook.UpstreamRange{From: "0a", To: "0b"}

func TestFunction_Invoke(t *testing.T) {
	t.Run("the function is invoked asynchronously, by a signed request", func(t *testing.T) {
		requests := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if r.Method != http.MethodPost || r.URL.Path != "/2015-03-31/functions/probe-1/invocations" || r.Header.Get("X-Amz-Invocation-Type") != "Event" {
				t.Errorf("request = %s %s %v; want an asynchronous invocation of probe-1", r.Method, r.URL.Path, r.Header)
			}
			if string(body) != `{"from":"0a","to":"0b"}` {
				t.Errorf("event = %s; want the part", body)
			}
			if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "/eu-central-1/lambda/aws4_request") || !strings.Contains(auth, "x-amz-invocation-type") {
				t.Errorf("authorization = %q; want the invocation signed for Lambda", auth)
			}
			w.WriteHeader(http.StatusAccepted)
		}))
		defer s.Close()
		for _, endpoint := range []string{s.URL, s.URL + "/"} {
			c := config(s.Client())
			c.BaseEndpoint = &endpoint
			if err := selfinvoke.New(c, "amazonaws.com", "probe-1").Invoke(t.Context(), part); err != nil {
				t.Errorf("Invoke at %s = %v; want none", endpoint, err)
			}
		}
		if requests != 2 {
			t.Errorf("%d requests; want one each", requests)
		}
	})
	t.Run("nothing but a promise will do", func(t *testing.T) {
		for _, status := range []int{http.StatusOK, http.StatusNoContent, http.StatusForbidden} {
			c := client(func(*http.Request) (*http.Response, error) { return answer(status), nil })
			err := selfinvoke.New(config(c), "amazonaws.com", "probe").Invoke(t.Context(), part)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("status %d: %v; want an error that names it", status, err)
			}
		}
	})
	t.Run("the function is of the region, whatever its partition", func(t *testing.T) {
		c := client(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "lambda.eu-central-1.amazonaws.com.cn" {
				t.Errorf("asked %s; want the region's Lambda", r.URL.Host)
			}
			return answer(http.StatusAccepted), nil
		})
		if err := selfinvoke.New(config(c), "amazonaws.com.cn", "probe").Invoke(t.Context(), part); err != nil {
			t.Error(err)
		}
	})
}
