"""``python pyrit_attacks.py URL MEMORY.db [ATTEMPTS]``: eight attacks of one turn for each question."""

import asyncio
import sys

from asked import ASKED
from pyrit.executor.attack import AttackExecutor, AttackScoringConfig, PromptSendingAttack
from pyrit.memory import CentralMemory, SQLiteMemory
from pyrit.prompt_target import OpenAIChatTarget
from pyrit.score import SubStringScorer

URL, MEMORY, ATTEMPTS = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0


async def main():
    memory = SQLiteMemory(db_path=MEMORY, silent=True)
    CentralMemory.set_memory_instance(memory)
    target = OpenAIChatTarget(
        endpoint=URL, api_key="none", model_name="little", temperature=0.7, max_completion_tokens=64
    )
    for question, secret in ASKED.items():
        attack = PromptSendingAttack(
            objective_target=target,
            attack_scoring_config=AttackScoringConfig(objective_scorer=SubStringScorer(substring=secret)),
            max_attempts_on_failure=ATTEMPTS,
        )
        await AttackExecutor(max_concurrency=4).execute_attack_async(attack=attack, objectives=[question] * 8)
    memory.dispose_engine()


asyncio.run(main())
