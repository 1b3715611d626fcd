package closing

import (
	"context"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Observe returns results whose calls are noted in the stats.
func Observe(results Results, stats *monitor.Stats) Results {
	return &observedResults{results, stats}
}

type observedResults struct {
	Results
	stats *monitor.Stats
}

func (o *observedResults) Store(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	began := time.Now()
	called := o.stats.StoringWindows()
	notices, stored, err := o.Results.Store(ctx, closings, published)
	called(err == nil)
	o.stats.Results(published, monitor.ResultsTrace{
		Began: began, Ended: time.Now(), Plazas: len(closings), Published: len(published),
		Notices: len(notices), Err: err,
	})
	return notices, stored, err
}
