module github.com/signalbox-go/signalbox/brokers

go 1.26.0

replace github.com/signalbox-go/signalbox => ../
