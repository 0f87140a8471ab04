// Package selfinvoke hands parts of a run to further processes of the Lambda
// function that runs: it invokes the function asynchronously.
//
// It signs its one request with the SDK's signer, and tries again when the SDK
// would. The SDK's own client of Lambda would lengthen every start of the
// function by a fifth (docs/decisions/0011).
package selfinvoke

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
)

const (
	// attemptTime bounds one request; Lambda answers as soon as it has put the
	// event on its own queue.
	attemptTime = 5 * time.Second
	// maxAnswer is how much of an answer is read, in bytes, so that its
	// connection can serve the next request.
	maxAnswer = 4 << 10
)

// Function is a Lambda function that can be invoked. It is safe for concurrent
// use.
type Function struct {
	config aws.Config
	url    string
	signer *v4.Signer
	retry  aws.Retryer
}

// New returns the function of that name, in the configuration's region. suffix
// is what the names of AWS's hosts end in there, such as amazonaws.com; it does
// not matter when the configuration has an endpoint.
func New(config aws.Config, suffix, name string) *Function {
	base := "https://lambda." + config.Region + "." + suffix
	if config.BaseEndpoint != nil {
		base = strings.TrimSuffix(*config.BaseEndpoint, "/")
	}
	return &Function{
		config: config,
		url:    base + "/2015-03-31/functions/" + url.PathEscape(name) + "/invocations",
		signer: v4.NewSigner(),
		retry:  retry.NewStandard(),
	}
}

// Invoke asks for a process that runs healthprobe for a part of all upstreams,
// and returns nil once Lambda has promised one: not when it has run. It may have
// promised when there is an error, and twice when there is none.
func (f *Function) Invoke(ctx context.Context, part hook.UpstreamRange) error {
	payload := lambdaevent.ProbeEvent(part)
	for attempt := 1; ; attempt++ {
		err := f.once(ctx, payload)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("invoke function: %w", err)
		if attempt == f.retry.MaxAttempts() || !f.retry.IsErrorRetryable(err) {
			return err
		}
		wait, werr := f.retry.RetryDelay(attempt, err)
		if werr != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// once makes one request.
func (f *Function) once(ctx context.Context, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Amz-Invocation-Type", "Event")
	credentials, err := f.config.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(payload)
	if err := f.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(sum[:]), "lambda", f.config.Region, time.Now()); err != nil {
		return err
	}
	resp, err := f.config.HTTPClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode != http.StatusAccepted {
		code, _, _ := strings.Cut(resp.Header.Get("X-Amzn-Errortype"), ":")
		return &refusal{resp.StatusCode, code}
	}
	return nil
}

// refusal is an answer of Lambda's that is not what was asked for. Its methods
// tell the SDK's retryer what it looks for.
type refusal struct {
	status int
	code   string // "TooManyRequestsException"; "" when it does not say
}

func (r *refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("Lambda answers %d %s", r.status, r.code))
}

func (r *refusal) HTTPStatusCode() int { return r.status }

func (r *refusal) ErrorCode() string { return r.code }
