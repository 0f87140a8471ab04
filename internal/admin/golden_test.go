package admin_test

import (
	"testing"

	"eventhooks/internal/goldentest"
)

// TestGolden plays the conversations of testdata (package goldentest says how
// they are written). Every answer is held to the contract.
func TestGolden(t *testing.T) {
	goldentest.Run(t, "testdata/*.txt", func(t *testing.T) goldentest.Server {
		t.Parallel()
		s := newServer(t)
		return goldentest.Server{
			Do: goldentest.Handler(s.svc),
			Vars: map[string]string{
				"admin_token": "admin-token", "read_token": "read-token", "ingest_token": "ingest-token", "wrong_token": "wrong-token",
			},
			Answered: func(method, path string, status int, body []byte) {
				promised(t, method, path, status, body)
				if status >= 500 {
					t.Logf("log: %s", s.log)
				}
			},
		}
	})
}
