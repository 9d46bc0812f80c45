"""An event bus for firms of trading agents."""

from openoutcry.clocks import SystemClock, VirtualClock
from openoutcry.config import (
    BackpressureConfig,
    BusConfig,
    Conflate,
    DropOldest,
    Gate,
    HealthCheckConfig,
    PersistenceConfig,
    RetryPolicy,
    load_config,
)
from openoutcry.core.ledger import Ledger, LedgerRow
from openoutcry.core.pressure import BackpressureLevel, BackpressureMetrics
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import OpenOutcryError
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    decode,
    encode,
    register_event,
)
from openoutcry.runtime.barriers import RoundOutcome, SignalBarrier
from openoutcry.runtime.bus import EventBus
from openoutcry.runtime.subscriptions import Subscription, SubscriptionStats
