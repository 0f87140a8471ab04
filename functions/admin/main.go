// Command admin is the Lambda function of the admin API.
package main

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/action"
	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/dynamostore"
	"eventhooks/internal/egress"
	"eventhooks/internal/env"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/lua"
	"eventhooks/internal/sqsqueue"
)

// Set by the linker only: loopback by the end-to-end tests.
var version, loopback = "dev", ""

func main() {
	lua.RunIfChild()
	slog.SetDefault(lambdacontext.NewLogger())
	svc, err := setup(env.New(os.LookupEnv))
	if err != nil {
		slog.Error("cold start failed", "err", err)
		os.Exit(1)
	}
	lambda.StartHandlerFunc(lambdaevent.Admin(svc, svc.MintToken))
}

func setup(e *env.Settings) (*admin.Service, error) {
	store := dynamostore.New(dynamodb.NewFromConfig(e.AWS("DYNAMODB")), e.String("CONFIG_TABLE"), e.String("STATE_TABLE"))
	retry := sqsqueue.New(sqs.NewFromConfig(e.AWS("SQS")), e.String("RETRY_QUEUE_URL"))
	client, err := egress.New(egress.Options{AllowPrivate: e.Prefixes("ALLOW_PRIVATE_CIDRS"), AllowLoopback: loopback != ""})
	if err := errors.Join(e.Err(), err); err != nil {
		return nil, err
	}
	lambdaevent.Warm(store.Warm)
	act := action.New(action.Options{Client: client, Version: version, Lua: lua.NewPool(lua.Options{MemoryMB: lambdacontext.MemoryLimitInMB})})
	return admin.New(admin.Options{Store: store, RetryQueue: retry, Action: act, Auth: auth.New(store, time.Now), Check: action.Check, Names: action.Names, Version: version})
}
