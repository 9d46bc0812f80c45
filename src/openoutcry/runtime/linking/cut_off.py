"""Cut off: what a desk does when it hears no other one.

Each desk decides this for itself, since nobody can reach it: a risk alert, and UNHEALTHY; or its own kill
switch as well. Neither leaves the desk, and neither is taken back by the link.
"""

import logging

from openoutcry.core.link_words import LinkWord
from openoutcry.runtime.admission.kill_switches import OWN_AGENT
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import Joined
from openoutcry.trading import AlertSeverity, KillSwitchEvent, RiskAlertEvent
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")


class LinkWatch:
    """Notices when this desk is cut off: no other one was heard for `link_lost_s`.

    Attributes:
        is_lost: Whether it is.

    """

    def __init__(self, joined: Joined, others: OtherDesks) -> None:
        self._joined = joined
        self._others = others
        self._lost_ns = int(joined.link.link_lost_s * NS_PER_S)
        self._since_ns = self._looked_ns = 0
        self.is_lost: bool = False

    def look(self) -> None:
        """Look whether anybody was heard lately. What this process has slept through does not count."""
        joined, others = self._joined, self._others
        now_ns, before_ns = joined.now_ns(), self._looked_ns
        self._looked_ns = now_ns
        if now_ns - before_ns > self._lost_ns // 2:
            self._since_ns = now_ns  # it was paused, and what was sent meanwhile is still to be read
        heard_ns = max(others.newest_ns, self._since_ns)
        is_missed = others.expects_any or not joined.transport.is_connected
        if now_ns - heard_ns >= self._lost_ns and is_missed:
            if not self.is_lost:
                self._lose(now_ns - heard_ns)
        elif self.is_lost:
            self.is_lost = False
            joined.problems.pop("beats", None)
            log.warning("desk %s hears the other desks again", joined.desk)

    def _lose(self, silent_ns: int) -> None:
        joined = self._joined
        self.is_lost = True
        names = ", ".join(sorted(d.name for d in self._others.desks.values() if d.is_expected)) or "any desk"
        engine = "" if joined.transport.is_connected else ", and the engine does not answer"
        goes_on = "The desk goes on, and its journal holds what waits"
        why = (
            f"desk {joined.desk!r} is cut off: it has not heard {names} for {silent_ns / NS_PER_S:.3g} s "
            f"(link_lost_s = {joined.link.link_lost_s:g}){engine}; see to the engine and the network"
            f"{'' if joined.bus.fenced else f'. {goes_on}'}"
        )
        log.critical("%s", why)
        joined.problems["beats"] = (LinkWord.STALLED, why)
        joined.spawn("alert", self._act(why))

    async def _act(self, why: str) -> None:
        """Do what the settings say, once each time."""
        admission = self._joined.admission
        if self._joined.link.on_link_lost == "halt" and not self._has_halted():
            halt = KillSwitchEvent(
                reason=f"{why}. It is not released by itself: `openoutcry release`, once that is seen to",
                source_agent=OWN_AGENT,
                triggered_by=OWN_AGENT,
            )
            await admission.publish(halt)
        await admission.publish(
            RiskAlertEvent(
                severity=AlertSeverity.CRITICAL, alert_type="link_lost", message=why, source_agent=OWN_AGENT
            ),
            level=None if self._joined.bus.fenced is None else "memory",
        )

    def _has_halted(self) -> bool:
        """Return True if the last time was not seen to yet: its kill switch is still active."""
        return any(halt.by == OWN_AGENT for halt in self._joined.bus.halts.inside("firm"))
